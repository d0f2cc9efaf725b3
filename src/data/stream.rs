//! Batches of images that are too many for memory: read, decoded and cropped on threads, several batches ahead.
//!
//! What a batch holds is a function of the order, the view and the images, whatever the number of threads and wherever
//! one begins. In memory are at most `ahead` batches of batch × side × side × 3 bytes, those that the caller holds, and
//! for each thread one file and one decoded image: nothing that grows with the number of images, but the order.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use winsign_core::random;

use super::crop::random_region;
use super::image::{Decoder, ImageError};
use super::imagenet;
use super::pack::Pack;
use super::{Entry, Error, Listing, Result, Split};

/// The name that a pack of ImageNet has beside other data sets.
const PACK: &str = "imagenet.pack";

/// Where images come from.
pub enum ImageSource {
    Folder(Listing),
    Pack(Pack),
}

/// ImageNet's images: of a pack, if `root` is one or there is `imagenet.pack` in it, or else in folders.
pub fn open(root: &Path) -> Result<ImageSource> {
    match find_pack(root) {
        Some(pack) => Ok(ImageSource::Pack(Pack::open(&pack)?)),
        None => Ok(ImageSource::Folder(imagenet::list(root)?)),
    }
}

/// The pack that `root` is, or that is in it.
pub fn find_pack(root: &Path) -> Option<PathBuf> {
    [root.to_path_buf(), root.join(PACK)].into_iter().find(|path| path.is_file())
}

impl ImageSource {
    pub fn classes(&self) -> &[String] {
        match self {
            ImageSource::Folder(listing) => &listing.classes,
            ImageSource::Pack(pack) => pack.classes(),
        }
    }

    /// The shorter side that images were made smaller to when they were packed, if they were.
    pub fn short_side(&self) -> Option<usize> {
        match self {
            ImageSource::Folder(_) => None,
            ImageSource::Pack(pack) => pack.short_side(),
        }
    }

    pub fn count(&self, split: Split) -> usize {
        match self {
            ImageSource::Folder(listing) => entries(listing, split).len(),
            ImageSource::Pack(pack) => pack.count(split),
        }
    }

    pub fn label(&self, split: Split, index: usize) -> u16 {
        match self {
            ImageSource::Folder(listing) => entries(listing, split)[index].label,
            ImageSource::Pack(pack) => pack.label(split, index),
        }
    }

    /// An image's file; `buffer` is used for it if it has to be read.
    pub fn bytes<'a>(&'a self, split: Split, index: usize, buffer: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        match self {
            ImageSource::Folder(listing) => read(&entries(listing, split)[index].path, buffer),
            ImageSource::Pack(pack) => {
                // A twentieth of what decoding costs.
                pack.verify(split, index)?;
                Ok(pack.bytes(split, index))
            }
        }
    }

    /// What is wrong with an image, with its name.
    fn error(&self, split: Split, index: usize, error: &ImageError) -> Error {
        match self {
            ImageSource::Folder(listing) => Error::malformed(&entries(listing, split)[index].path, error.to_string()),
            ImageSource::Pack(pack) => pack.image_error(split, index, error),
        }
    }
}

fn entries(listing: &Listing, split: Split) -> &[Entry] {
    match split {
        Split::Train => &listing.train,
        Split::Test => &listing.test,
    }
}

/// A file's bytes, in a buffer that grows to the largest.
fn read<'a>(path: &Path, buffer: &'a mut Vec<u8>) -> Result<&'a [u8]> {
    buffer.clear();
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    file.read_to_end(buffer).map_err(Error::io("read", path))?;
    Ok(buffer)
}

/// What is made of each image: side × side pixels.
#[derive(Debug, Clone)]
pub enum View {
    /// A random part of `scale` (from, to) of the area, mirrored or not: for training. The draws of an image are those
    /// of its index's stream.
    Random { side: usize, scale: (f64, f64), draws: random::Source },
    /// The center of the image resized to a shorter side of `short`: for evaluation.
    Center { side: usize, short: usize },
}

impl View {
    fn side(&self) -> usize {
        let (View::Random { side, .. } | View::Center { side, .. }) = self;
        *side
    }

    /// Prepares the square of an image's file in the decoder; says whether it is to be mirrored.
    fn prepare(&self, decoder: &mut Decoder, bytes: &[u8], index: usize) -> std::result::Result<bool, ImageError> {
        match self {
            View::Random { side, scale, draws } => {
                let mut draws = draws.stream(index as u64);
                let flip = draws.uniform() < 0.5;
                let choose = |width, height| random_region(width, height, *scale, &mut draws);
                decoder.prepare_region(bytes, choose, *side)?;
                Ok(flip)
            }
            View::Center { side, short } => {
                decoder.prepare_center(bytes, *short, *side)?;
                Ok(false)
            }
        }
    }
}

/// How batches are made.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Images in a batch; the last may have fewer.
    pub batch: usize,
    /// The batch to begin with.
    pub first: usize,
    pub threads: usize,
    /// Batches that are worked on or wait.
    pub ahead: usize,
}

/// Images of a batch. Its memory is used again when it is dropped.
pub struct ImageBatch {
    /// N × side × side × 3, interleaved.
    pub pixels: Vec<u8>,
    /// N classes.
    pub labels: Vec<i64>,
    shared: Arc<Shared>,
}

impl Drop for ImageBatch {
    fn drop(&mut self) {
        let pixels = std::mem::take(&mut self.pixels);
        let mut state = self.shared.lock();
        if state.free.len() < self.shared.options.ahead && !state.stop {
            state.free.push(pixels);
        }
    }
}

/// An iterator over batches. Its threads end when it is dropped, after the first error, and at the end.
pub struct Batches {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Why there is no thread at all.
    failure: Option<Error>,
}

/// The images `order` of a split in batches. After the first image that cannot be read or decoded, in the order, there
/// is its error and nothing more. If fewer threads can be started than asked for, those do the work; if none can, the
/// reason is the first item and the last.
pub fn batches(source: Arc<ImageSource>, split: Split, order: Vec<usize>, view: View, options: Options) -> Batches {
    start(Shared::new(source, split, order, view, options), |number, shared| {
        std::thread::Builder::new().name(format!("decode-{number}")).spawn(move || shared.work())
    })
}

/// Starts as many threads as `spawn` can.
fn start(shared: Arc<Shared>, spawn: impl Fn(usize, Arc<Shared>) -> std::io::Result<JoinHandle<()>>) -> Batches {
    let (mut threads, mut failure) = (vec![], None);
    for number in 0..shared.options.threads {
        match spawn(number, shared.clone()) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    let failure = failure.filter(|_| threads.is_empty()).map(|error| {
        let reason = format!("cannot start a thread to decode images: {error}; raise the limit of processes");
        Error::Request(reason)
    });
    Batches { shared, threads, failure }
}

impl Iterator for Batches {
    type Item = Result<ImageBatch>;

    fn next(&mut self) -> Option<Result<ImageBatch>> {
        let shared = &self.shared;
        let mut state = shared.lock();
        if state.stop || shared.images(state.taken).is_empty() {
            return None;
        }
        if let Some(error) = self.failure.take() {
            state.stop = true;
            return Some(Err(error));
        }
        let waits = |state: &mut State| !state.panicked && state.open.front().is_none_or(|batch| batch.missing > 0);
        state = shared.news.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
        assert!(!state.panicked, "a thread that decodes images has panicked");
        let batch = state.open.pop_front().expect("it was waited for");
        let images = shared.images(state.taken);
        state.taken += 1;
        if let Some((_, error)) = batch.error {
            state.stop = true;
            shared.room.notify_all();
            return Some(Err(error));
        }
        let pixels = Arc::into_inner(batch.pixels).expect("no thread is at work on a whole batch");
        let pixels = pixels.into_inner().unwrap_or_else(PoisonError::into_inner);
        let labels =
            shared.order[images].iter().map(|&index| i64::from(shared.source.label(shared.split, index))).collect();
        drop(state);
        shared.room.notify_all();
        Some(Ok(ImageBatch { pixels, labels, shared: shared.clone() }))
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.room.notify_all();
        for thread in self.threads.drain(..) {
            // A panic was seen by `next`, or nobody waits for its batch any more.
            let _ = thread.join();
        }
    }
}

/// What the threads and the iterator share.
struct Shared {
    source: Arc<ImageSource>,
    split: Split,
    order: Vec<usize>,
    view: View,
    options: Options,
    state: Mutex<State>,
    /// Told when a thread may have something to do, or should end.
    room: Condvar,
    /// Told when a batch is whole.
    news: Condvar,
}

struct State {
    /// The next position in the order that a thread takes.
    next: usize,
    /// Batches before this one are the caller's.
    taken: usize,
    /// The batch `taken` and those after it.
    open: VecDeque<Open>,
    /// Memory of batches that the caller dropped.
    free: Vec<Vec<u8>>,
    /// How many batches' memory was ever allocated.
    buffers: usize,
    stop: bool,
    panicked: bool,
}

/// A batch that is worked on, or waits.
struct Open {
    pixels: Arc<Mutex<Vec<u8>>>,
    missing: usize,
    /// The first error by position.
    error: Option<(usize, Error)>,
}

impl Shared {
    fn new(source: Arc<ImageSource>, split: Split, order: Vec<usize>, view: View, options: Options) -> Arc<Shared> {
        let Options { batch, first, threads, ahead } = options;
        let options = Options { batch: batch.max(1), first, threads: threads.max(1), ahead: ahead.max(1) };
        let state = State {
            next: options.batch.saturating_mul(first).min(order.len()),
            taken: first,
            open: VecDeque::new(),
            free: vec![],
            buffers: 0,
            stop: false,
            panicked: false,
        };
        Arc::new(Shared {
            source,
            split,
            order,
            view,
            options,
            state: Mutex::new(state),
            room: Condvar::new(),
            news: Condvar::new(),
        })
    }

    /// What a thread does.
    fn work(&self) {
        let _watch = Watch(self);
        let mut decoder = Decoder::new();
        let mut file = vec![];
        let length = self.view.side() * self.view.side() * 3;
        while let Some((position, pixels)) = self.claim() {
            let index = self.order[position];
            let prepared = self.source.bytes(self.split, index, &mut file).and_then(|bytes| {
                let prepared = self.view.prepare(&mut decoder, bytes, index);
                prepared.map_err(|error| self.source.error(self.split, index, &error))
            });
            let error = match prepared {
                Ok(flip) => {
                    // The batch is locked for the few microseconds that this takes.
                    let start = position % self.options.batch * length;
                    decoder.write_square(flip, &mut lock(&pixels)[start..start + length]);
                    None
                }
                Err(error) => Some(error),
            };
            drop(pixels);
            self.finish(position, error);
        }
    }

    /// The next position of the order and its batch's pixels; none at the end.
    fn claim(&self) -> Option<(usize, Arc<Mutex<Vec<u8>>>)> {
        let Options { batch, ahead, .. } = self.options;
        let waits = |state: &mut State| {
            !state.stop && state.next < self.order.len() && state.next / batch >= state.taken + ahead
        };
        let mut state = self.room.wait_while(self.lock(), waits).unwrap_or_else(PoisonError::into_inner);
        if state.stop || state.next >= self.order.len() {
            return None;
        }
        let position = state.next;
        state.next += 1;
        let number = position / batch;
        let at = number - state.taken;
        if at == state.open.len() {
            let count = self.images(number).len();
            let length = count * self.view.side() * self.view.side() * 3;
            let mut pixels = state.free.pop().unwrap_or_default();
            state.buffers += usize::from(pixels.capacity() == 0);
            pixels.resize(length, 0);
            state.open.push_back(Open { pixels: Arc::new(Mutex::new(pixels)), missing: count, error: None });
        }
        Some((position, state.open[at].pixels.clone()))
    }

    /// Notes that an image is in its batch, or why not.
    fn finish(&self, position: usize, error: Option<Error>) {
        let mut state = self.lock();
        let at = position / self.options.batch - state.taken;
        // None if the caller has met an error and left.
        let Some(batch) = state.open.get_mut(at) else { return };
        batch.missing -= 1;
        if let Some(error) = error
            && batch.error.as_ref().is_none_or(|(first, _)| position < *first)
        {
            batch.error = Some((position, error));
        }
        if batch.missing == 0 && at == 0 {
            self.news.notify_all();
        }
    }

    /// Positions of a batch in the order.
    fn images(&self, number: usize) -> std::ops::Range<usize> {
        let start = self.options.batch.saturating_mul(number).min(self.order.len());
        start..(start + self.options.batch).min(self.order.len())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// A panic elsewhere leaves nothing half done here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the iterator of a panic, for which it would wait forever.
struct Watch<'a>(&'a Shared);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().panicked = true;
            self.0.news.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::image::{Rgb, encode_jpeg};
    use super::*;
    use std::path::PathBuf;

    /// Images of many colors and sizes, as files.
    fn source(folder: &Path, count: usize) -> ImageSource {
        let train = (0..count)
            .map(|number| {
                let (width, height) = (20 + number % 7, 30 - number % 5);
                let byte = number as u8;
                let color = [byte.wrapping_mul(9), 255u8.wrapping_sub(byte.wrapping_mul(7)), 128];
                let shade = |at: usize| color[at % 3].wrapping_add((at / 3 % width * 5) as u8);
                let pixels = (0..width * height * 3).map(shade).collect();
                let path = folder.join(format!("{number}.JPEG"));
                std::fs::write(&path, encode_jpeg(&Rgb { width, height, pixels }, 90).unwrap()).unwrap();
                Entry { path, label: number as u16 % 3 }
            })
            .collect();
        ImageSource::Folder(Listing { classes: vec![], train, test: vec![] })
    }

    fn options(threads: usize) -> Options {
        Options { batch: 8, first: 0, threads, ahead: 3 }
    }

    fn random_view(seed: u64, epoch: u64) -> View {
        View::Random { side: 16, scale: (0.08, 1.0), draws: random::Source::new(seed, "crop", epoch) }
    }

    fn stream(source: &Arc<ImageSource>, seed: u64, options: Options) -> Batches {
        let view = random_view(seed, 2);
        batches(source.clone(), Split::Train, (0..50).rev().collect(), view, options)
    }

    fn all(batches: Batches) -> Vec<(Vec<u8>, Vec<i64>)> {
        batches.map(|batch| batch.map(|batch| (batch.pixels.clone(), batch.labels.clone())).unwrap()).collect()
    }

    #[test]
    fn batches_do_not_depend_on_threads_or_on_where_one_begins() {
        let folder = tempfile::tempdir().unwrap();
        let source = Arc::new(source(folder.path(), 50));
        let one = all(stream(&source, 1, options(1)));
        assert_eq!(one.len(), 7);
        assert!(one[..6].iter().all(|(pixels, labels)| pixels.len() == 8 * 16 * 16 * 3 && labels.len() == 8));
        assert_eq!(one[0].1, [1, 0, 2, 1, 0, 2, 1, 0], "labels of 49, 48, ...");
        assert_eq!((one[6].0.len(), one[6].1.len()), (2 * 16 * 16 * 3, 2));
        assert_eq!(all(stream(&source, 1, options(3))), one);
        assert_eq!(all(stream(&source, 1, Options { first: 4, ..options(2) })), one[4..]);
        assert!(all(stream(&source, 1, Options { first: 7, ..options(2) })).is_empty());
        assert_ne!(all(stream(&source, 2, options(1)))[0].0, one[0].0, "another seed crops otherwise");
    }

    #[test]
    fn an_image_is_cropped_alike_wherever_it_comes() {
        let folder = tempfile::tempdir().unwrap();
        let source = Arc::new(source(folder.path(), 10));
        let view = random_view(1, 0);
        let run = |order: Vec<usize>| {
            let options = Options { batch: 1, ..options(2) };
            all(batches(source.clone(), Split::Train, order, view.clone(), options))
        };
        let (forth, mut back) = (run((0..10).collect()), run((0..10).rev().collect()));
        back.reverse();
        assert_eq!(forth, back);
    }

    #[test]
    fn evaluation_sees_the_centers() {
        let folder = tempfile::tempdir().unwrap();
        let source = Arc::new(source(folder.path(), 3));
        let view = View::Center { side: 12, short: 14 };
        let batches = all(batches(source.clone(), Split::Train, vec![2], view, options(1)));
        let mut expected = vec![0; 12 * 12 * 3];
        let bytes = std::fs::read(folder.path().join("2.JPEG")).unwrap();
        Decoder::new().decode_center(&bytes, 14, 12, &mut expected).unwrap();
        assert_eq!(batches, [(expected, vec![2])]);
    }

    #[test]
    fn the_first_bad_image_of_the_order_is_named_after_all_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let source = Arc::new(source(folder.path(), 50));
        let path = |number: usize| -> PathBuf { folder.path().join(format!("{number}.JPEG")) };
        // Positions 20 and 22 of the order, both in batch 2; and one in the batch after it.
        std::fs::write(path(27), &std::fs::read(path(27)).unwrap()[..300]).unwrap();
        std::fs::write(path(29), b"").unwrap();
        std::fs::remove_file(path(20)).unwrap();
        for threads in [1, 3] {
            let mut batches = stream(&source, 1, options(threads));
            assert!(batches.next().unwrap().is_ok() && batches.next().unwrap().is_ok());
            let error = batches.next().unwrap().err().unwrap();
            assert_eq!(error.to_string(), format!("{}: the file is empty", path(29).display()));
            assert!(batches.next().is_none());
        }
    }

    #[test]
    fn few_batches_are_in_memory_and_their_memory_is_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let source = Arc::new(source(folder.path(), 50));
        let mut batches = stream(&source, 1, options(3));
        let mut held = batches.next().unwrap().unwrap();
        for batch in batches.by_ref() {
            held = batch.unwrap();
            let state = held.shared.lock();
            assert!(state.open.len() <= 3);
            assert!(state.next <= (state.taken + 3) * 8);
            // Those ahead, the one held, and the one before it, whose memory is not yet back.
            assert!(state.buffers <= 5, "{}", state.buffers);
        }
        assert_eq!(held.labels.len(), 2);
    }

    #[test]
    fn threads_that_cannot_be_started_are_done_without_unless_it_is_all() {
        let folder = tempfile::tempdir().unwrap();
        let source = Arc::new(source(folder.path(), 50));
        let expected = all(stream(&source, 1, options(3)));
        let limited = |limit: usize| {
            let order = (0..50).rev().collect();
            let shared = Shared::new(source.clone(), Split::Train, order, random_view(1, 2), options(3));
            start(shared, move |number, shared| match number < limit {
                true => std::thread::Builder::new().spawn(move || shared.work()),
                false => Err(std::io::ErrorKind::WouldBlock.into()),
            })
        };
        assert_eq!(all(limited(1)), expected);
        let mut none = limited(0);
        let error = none.next().unwrap().err().unwrap().to_string();
        assert!(error.starts_with("cannot start a thread to decode images: "), "{error}");
        assert!(none.next().is_none());
    }

    #[test]
    fn the_threads_end_when_nobody_wants_more() {
        let folder = tempfile::tempdir().unwrap();
        let source = Arc::new(source(folder.path(), 50));
        let mut batches = stream(&source, 1, options(3));
        let first = batches.next().unwrap().unwrap();
        drop(batches);
        drop(first);
        // No thread holds it any more.
        assert!(Arc::into_inner(source).is_some());
    }
}
