//! Batches of sets that do not fit in memory: images are read, decoded and cropped on threads, several batches ahead.
//!
//! The content of a batch is a function of the order, the view and the images, regardless of the number of threads and
//! of the first batch. Memory holds at most `ahead` batches of batch × side × side × 3 bytes, the batches of the
//! caller, and one file and one decoded image per thread: apart from the order, nothing grows with the number of
//! images.

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
use super::{Error, Listing, Result, Split};

/// The name of a pack of ImageNet beside other data sets.
const PACK: &str = "imagenet.pack";

/// The source of images.
pub enum ImageSource {
    Folder(Listing),
    Pack(Pack),
}

/// Opens ImageNet: a pack, if `root` is one or contains `imagenet.pack`, or else folders.
pub(crate) fn open(root: &Path) -> Result<ImageSource> {
    match find_pack(root) {
        Some(pack) => Ok(ImageSource::Pack(Pack::open(&pack)?)),
        None => Ok(ImageSource::Folder(imagenet::list(root)?)),
    }
}

/// Returns the pack that `root` is or contains, if any.
pub(crate) fn find_pack(root: &Path) -> Option<PathBuf> {
    [root.to_path_buf(), root.join(PACK)].into_iter().find(|path| path.is_file())
}

impl ImageSource {
    /// Returns the names of the classes.
    pub fn classes(&self) -> &[String] {
        match self {
            ImageSource::Folder(listing) => &listing.classes,
            ImageSource::Pack(pack) => pack.classes(),
        }
    }

    /// Returns the shorter side in pixels to which larger images were resized by packing, if any.
    pub fn short_side(&self) -> Option<usize> {
        match self {
            ImageSource::Folder(_) => None,
            ImageSource::Pack(pack) => pack.short_side(),
        }
    }

    /// Returns the number of images of a part.
    pub fn count(&self, split: Split) -> usize {
        match self {
            ImageSource::Folder(listing) => listing.part(split).len(),
            ImageSource::Pack(pack) => pack.count(split),
        }
    }

    /// Returns the label of an image.
    pub fn label(&self, split: Split, index: usize) -> u16 {
        match self {
            ImageSource::Folder(listing) => listing.part(split)[index].label,
            ImageSource::Pack(pack) => pack.label(split, index),
        }
    }

    /// Returns the bytes of the file of an image; `buffer` holds them if they have to be read.
    pub fn bytes<'a>(&'a self, split: Split, index: usize, buffer: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        match self {
            ImageSource::Folder(listing) => read(&listing.part(split)[index].path, buffer),
            ImageSource::Pack(pack) => {
                // This costs a twentieth of the decoding.
                pack.verify(split, index)?;
                Ok(pack.bytes(split, index))
            }
        }
    }

    /// Adds the name or position of an image to an error.
    fn error(&self, split: Split, index: usize, error: &ImageError) -> Error {
        match self {
            ImageSource::Folder(listing) => Error::malformed(&listing.part(split)[index].path, error.to_string()),
            ImageSource::Pack(pack) => pack.image_error(split, index, error),
        }
    }
}

/// Reads a file into a buffer, which is reused.
fn read<'a>(path: &Path, buffer: &'a mut Vec<u8>) -> Result<&'a [u8]> {
    buffer.clear();
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    file.read_to_end(buffer).map_err(Error::io("read", path))?;
    Ok(buffer)
}

/// The view of each image: a square of side × side pixels.
#[derive(Debug, Clone)]
pub enum View {
    /// A random region with an area of `scale` (from, to) times that of the image, mirrored or not: for training. The
    /// random numbers of an image are those of the stream of its index.
    Random { side: usize, scale: (f64, f64), draws: random::Source },
    /// The center of the image resized to a shorter side of `short` pixels: for evaluation.
    Center { side: usize, short: usize },
}

impl View {
    fn side(&self) -> usize {
        let (View::Random { side, .. } | View::Center { side, .. }) = self;
        *side
    }

    /// Prepares the square of an image in the decoder; returns true if it is to be mirrored.
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

/// The options of batches.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The number of images in a batch; the last batch may have fewer.
    pub batch: usize,
    /// The index of the first batch.
    pub first: usize,
    pub threads: usize,
    /// The number of batches that are prepared ahead.
    pub ahead: usize,
}

/// The images of a batch. The memory is reused when the batch is dropped.
pub struct ImageBatch {
    /// The pixels: N × side × side × 3 bytes, interleaved.
    pub pixels: Vec<u8>,
    /// The labels of the N images.
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
    /// The error if no thread could be started.
    failure: Option<Error>,
}

/// Returns the images `order` of a part in batches. The error of the first image in the order that cannot be read or
/// decoded is the last item. If fewer threads can be started than requested, those do the work; if none can be started,
/// the error is the only item.
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
        let reason = format!("cannot start a thread to decode images: {error}; help: raise the limit on processes");
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
        let batch = state.open.pop_front().expect("the wait is over");
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
            // A panic was reported by `next`, or its batch is not needed any more.
            let _ = thread.join();
        }
    }
}

/// The state that the threads and the iterator share.
struct Shared {
    source: Arc<ImageSource>,
    split: Split,
    order: Vec<usize>,
    view: View,
    options: Options,
    state: Mutex<State>,
    /// Notified when a thread may have work, or should end.
    room: Condvar,
    /// Notified when a batch is complete.
    news: Condvar,
}

struct State {
    /// The next position in the order that a thread takes.
    next: usize,
    /// The number of the next batch for the caller.
    taken: usize,
    /// The batch `taken` and those after it, as far as they were begun.
    open: VecDeque<Open>,
    /// The memory of batches that the caller dropped.
    free: Vec<Vec<u8>>,
    /// The number of batches for which memory was allocated.
    buffers: usize,
    stop: bool,
    panicked: bool,
}

/// A batch that is being prepared, or waits for the caller.
struct Open {
    pixels: Arc<Mutex<Vec<u8>>>,
    missing: usize,
    /// The first error in the order, with its position.
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

    /// Prepares images until the end: the main function of a thread.
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

    /// Claims the next position in the order; returns it with the pixels of its batch, or `None` at the end.
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

    /// Records that an image is in its batch, or the error.
    fn finish(&self, position: usize, error: Option<Error>) {
        let mut state = self.lock();
        let at = position / self.options.batch - state.taken;
        // The batch is missing if the caller has stopped after an error.
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

    /// Returns the positions of a batch in the order.
    fn images(&self, number: usize) -> std::ops::Range<usize> {
        let start = self.options.batch.saturating_mul(number).min(self.order.len());
        start..(start + self.options.batch).min(self.order.len())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Locks a mutex. A poisoned one is fine, because no panic can leave its content inconsistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notifies the iterator of a panic, for which it would otherwise wait forever.
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
    use super::super::Entry;
    use super::super::image::{Rgb, encode_jpeg};
    use super::*;
    use std::path::PathBuf;

    /// Creates files of images of many colors and sizes.
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
    fn batches_do_not_depend_on_threads_or_on_the_first_batch() {
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
    fn crop_of_an_image_does_not_depend_on_its_position() {
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
    fn first_bad_image_of_the_order_is_reported_after_all_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let source = Arc::new(source(folder.path(), 50));
        let path = |number: usize| -> PathBuf { folder.path().join(format!("{number}.JPEG")) };
        // Positions 20 and 22 of the order, both in batch 2, and one in the next batch.
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
    fn few_batches_are_in_memory_and_buffers_are_reused() {
        let folder = tempfile::tempdir().unwrap();
        let source = Arc::new(source(folder.path(), 50));
        let mut batches = stream(&source, 1, options(3));
        let mut held = batches.next().unwrap().unwrap();
        for batch in batches.by_ref() {
            held = batch.unwrap();
            let state = held.shared.lock();
            assert!(state.open.len() <= 3);
            assert!(state.next <= (state.taken + 3) * 8);
            // The batches ahead, the current one, and the previous one, whose memory is not yet returned.
            assert!(state.buffers <= 5, "{}", state.buffers);
        }
        assert_eq!(held.labels.len(), 2);
    }

    #[test]
    fn fewer_threads_suffice_unless_none_can_be_started() {
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
    fn threads_end_when_the_batches_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let source = Arc::new(source(folder.path(), 50));
        let mut batches = stream(&source, 1, options(3));
        let first = batches.next().unwrap().unwrap();
        drop(batches);
        drop(first);
        // No thread has a reference any more.
        assert!(Arc::into_inner(source).is_some());
    }
}
