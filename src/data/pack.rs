//! Packs: all images of a data set in one memory-mapped file.
//!
//! A pack holds a header, one record per image (training images, then test images), an index and a footer; all numbers
//! are little-endian. Each record has its own number and checksum, so that an interrupted packing resumes after the
//! last intact record. Readers use the index. Packing the same images twice with the same settings gives the same
//! bytes.
//!
//! ```text
//! header  64   magic 8, version u32, short side u32 (0: not resized), quality u32, 12 zeros, digest of the listing 32
//! record  32+n number u32, length u32, width u32, height u32, checksum 16, bytes of the image; length 0: skipped.
//!              The checksum covers the four numbers and the bytes
//! index        classes: count u32, each length u16 and name; then for each image 40:
//!              offset u64, length u32, width u32, height u32, label u16, 2 zeros, checksum 16
//! footer  64   offset of the index u64, its length u64, training images u64, test images u64, digest of header and
//!              index 24 bytes, magic 8
//! ```

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::Mmap;
use rustix::fs::FlockOperation;

use super::image::{self, Decoder, ImageError};
use super::parallel::in_order;
use super::{Entry, Error, Listing, Result, Split};

const MAGIC: [u8; 8] = *b"WSPACK\r\n";
const VERSION: u32 = 1;
const HEADER: usize = 64;
const RECORD: usize = 32;
/// The number of bytes of a record before its checksum.
const NUMBERS: usize = 16;
const ENTRY: usize = 40;
const FOOTER: usize = 64;

// --- reading ----------------------------------------------------------------------------------------------------

/// An open pack, whose index was checked. [`Pack::verify`] checks the bytes of an image.
pub struct Pack {
    path: PathBuf,
    map: Mmap,
    classes: Vec<String>,
    /// The offset of the first entry of the index.
    entries: usize,
    train: usize,
    test: usize,
}

impl Pack {
    /// Opens a pack, and checks its index.
    pub fn open(path: &Path) -> Result<Pack> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        // SAFETY: a pack is not modified once it has its final name, so its bytes do not change.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io("map into memory", path))?;
        let damaged = |reason: String| Error::malformed(path, reason);
        if map.get(..8) != Some(&MAGIC[..]) {
            return Err(damaged("it is not a pack of winsign: the magic number is missing".to_string()));
        }
        let end = map.len();
        if end < HEADER + FOOTER {
            return Err(damaged(format!("the pack is cut off at byte {end}")));
        }
        let version = u32_at(&map, 8);
        if version != VERSION {
            return Err(damaged(format!("it has version {version}, but this winsign reads version {VERSION}")));
        }
        let footer = &map[end - FOOTER..];
        if footer[56..] != MAGIC {
            return Err(damaged(format!("the pack is cut off at byte {end}: it has no footer there")));
        }
        let [index, length, train, test] = [0, 8, 16, 24].map(|at| u64_at(footer, at));
        if index < HEADER as u64 || index.checked_add(length) != Some((end - FOOTER) as u64) {
            return Err(damaged(format!("the footer at byte {} is damaged", end - FOOTER)));
        }
        let (index, train, test) = (index as usize, train as usize, test as usize);
        let broken = || damaged(format!("the index at byte {index} is damaged"));
        let body = &map[index..end - FOOTER];
        if footer[32..56] != index_digest(&map[..HEADER], body, train, test) {
            return Err(broken());
        }
        let (classes, names) = read_classes(body).ok_or_else(broken)?;
        let whole = train.checked_add(test).and_then(|count| count.checked_mul(ENTRY)) == Some(body.len() - names);
        if !whole {
            return Err(broken());
        }
        let pack = Pack { path: path.to_path_buf(), classes, entries: index + names, train, test, map };
        for number in 0..train + test {
            let entry = pack.entry(number);
            let inside = entry.offset >= HEADER + RECORD
                && entry.offset.checked_add(entry.length).is_some_and(|end| end <= index);
            if !inside || usize::from(entry.label) >= pack.classes.len() {
                return Err(broken());
            }
        }
        Ok(pack)
    }

    /// Returns the path of the pack.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the names of the classes.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Returns the number of images of a part.
    pub fn count(&self, split: Split) -> usize {
        match split {
            Split::Train => self.train,
            Split::Test => self.test,
        }
    }

    /// Returns the shorter side in pixels to which larger images were resized; returns `None` if all images are as
    /// published.
    pub fn short_side(&self) -> Option<usize> {
        Some(u32_at(&self.map, 12) as usize).filter(|side| *side > 0)
    }

    /// Returns the label of an image.
    pub fn label(&self, split: Split, index: usize) -> u16 {
        self.entry(self.number(split, index)).label
    }

    /// Returns width and height of an image in pixels.
    pub fn size(&self, split: Split, index: usize) -> (usize, usize) {
        let entry = self.entry(self.number(split, index));
        (entry.width, entry.height)
    }

    /// Returns the bytes of the file of an image.
    pub fn bytes(&self, split: Split, index: usize) -> &[u8] {
        self.bytes_of(&self.entry(self.number(split, index)))
    }

    /// Compares the record of an image with its checksum.
    pub fn verify(&self, split: Split, index: usize) -> Result<()> {
        let entry = self.entry(self.number(split, index));
        let head = &self.map[entry.offset - RECORD..entry.offset];
        if checksum(&head[..NUMBERS], self.bytes_of(&entry)) == entry.checksum {
            return Ok(());
        }
        Err(self.at(split, index, "its bytes do not match their checksum"))
    }

    /// Adds the position of an image in the pack to an error.
    pub fn image_error(&self, split: Split, index: usize, error: &ImageError) -> Error {
        self.at(split, index, &error.to_string())
    }

    fn at(&self, split: Split, index: usize, reason: &str) -> Error {
        let offset = self.entry(self.number(split, index)).offset;
        Error::malformed(&self.path, format!("{split} image {index} (counted from 0), at byte {offset}: {reason}"))
    }

    fn number(&self, split: Split, index: usize) -> usize {
        assert!(index < self.count(split), "an image of the pack");
        match split {
            Split::Train => index,
            Split::Test => self.train + index,
        }
    }

    fn entry(&self, number: usize) -> IndexEntry {
        let bytes = &self.map[self.entries + number * ENTRY..][..ENTRY];
        IndexEntry {
            offset: u64_at(bytes, 0) as usize,
            length: u32_at(bytes, 8) as usize,
            width: u32_at(bytes, 12) as usize,
            height: u32_at(bytes, 16) as usize,
            label: u16::from_le_bytes([bytes[20], bytes[21]]),
            checksum: bytes[24..40].try_into().expect("16 bytes"),
        }
    }

    fn bytes_of(&self, entry: &IndexEntry) -> &[u8] {
        &self.map[entry.offset..entry.offset + entry.length]
    }
}

/// Compares every image with its checksum and decodes it; returns all errors, in order. `each` is called after every
/// image.
pub fn check(pack: &Pack, threads: usize, mut each: impl FnMut()) -> Vec<Error> {
    let mut wrong = vec![];
    let place = |number: usize| match number.checked_sub(pack.train) {
        None => (Split::Train, number),
        Some(index) => (Split::Test, index),
    };
    let examine = |decoder: &mut Decoder, number: usize| -> Result<()> {
        let (split, index) = place(number);
        pack.verify(split, index)?;
        let decoded = decoder.decode(pack.bytes(split, index));
        let image = decoded.map_err(|error| pack.image_error(split, index, &error))?;
        if (image.width, image.height) != pack.size(split, index) {
            return Err(pack.at(split, index, "its size differs from the size in the index"));
        }
        Ok(())
    };
    in_order(0..pack.train + pack.test, threads, Decoder::new, examine, |_, result| {
        wrong.extend(result.err());
        each();
        ControlFlow::Continue(())
    });
    wrong
}

struct IndexEntry {
    offset: usize,
    length: usize,
    width: usize,
    height: usize,
    label: u16,
    checksum: [u8; 16],
}

// --- writing ----------------------------------------------------------------------------------------------------

/// The options of a packing.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The shorter side in pixels to which larger images are resized before they are encoded again; `None` leaves all
    /// files as they are.
    pub short_side: Option<usize>,
    /// The quality of JPEGs that are encoded again, from 1 to 100.
    pub quality: i32,
    pub threads: usize,
    /// Skip images whose content is damaged, instead of stopping.
    pub skip_unreadable: bool,
}

/// The progress of a packing, reported after every image.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// The number of images in the file, including those of an earlier run.
    pub done: usize,
    pub total: usize,
    /// The size of the file in bytes.
    pub bytes: u64,
}

/// The result of a packing.
#[derive(Debug)]
pub struct Summary {
    pub images: usize,
    pub bytes: u64,
    /// The number of images that an earlier run had written.
    pub found: usize,
    /// The skipped images, with the reasons of those that this run skipped.
    pub skipped: Vec<(PathBuf, Option<String>)>,
    /// True if the pack is complete, false if the packing was stopped.
    pub finished: bool,
}

/// Packs the images of a listing into `file`. They are written to `FILE.partial` first: an interrupted packing is
/// checked and resumed. If `stop` becomes true, packing ends after the current image.
pub fn pack(
    listing: &Listing,
    file: &Path,
    options: &Options,
    stop: &AtomicBool,
    mut each: impl FnMut(Progress),
) -> Result<Summary> {
    let header = header(listing, options);
    let total = listing.train.len() + listing.test.len();
    if file.exists() {
        return already_there(file, &header, total);
    }
    let partial = partial_path(file);
    let mut writer = Writer::open(&partial, &header, total)?;
    let found = writer.records.len();
    if file.exists() {
        // Another process has just finished the pack, so an empty partial file is of no use.
        if found == 0 {
            fs::remove_file(&partial).map_err(Error::io("remove", &partial))?;
        }
        return already_there(file, &header, total);
    }
    let entry = |number: usize| match number.checked_sub(listing.train.len()) {
        None => &listing.train[number],
        Some(index) => &listing.test[index],
    };
    let mut skipped: Vec<(PathBuf, Option<String>)> = vec![];
    for (number, record) in writer.records.iter().enumerate() {
        if record.length == 0 {
            skipped.push((entry(number).path.clone(), None));
        }
    }
    let mut failure = None;
    each(Progress { done: found, total, bytes: writer.end });
    let prepare = |decoder: &mut Decoder, number: usize| prepare(number, &entry(number).path, options, decoder);
    in_order(found..total, options.threads, Decoder::new, prepare, |number, prepared| {
        let prepared = match prepared {
            Err(Error::Malformed { path, reason }) if options.skip_unreadable => {
                skipped.push((path, Some(reason)));
                Ok(Prepared::new(number, vec![], 0, 0))
            }
            other => other,
        };
        match prepared.and_then(|prepared| writer.append(&prepared)) {
            Err(error) => {
                failure = Some(error);
                return ControlFlow::Break(());
            }
            Ok(()) => each(Progress { done: number + 1, total, bytes: writer.end }),
        }
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if let Some(error) = failure {
        // Write as much as possible, so that the next run can resume.
        let _ = writer.file.flush();
        return Err(error);
    }
    let finished = writer.records.len() == total;
    let images = writer.records.iter().filter(|record| record.length > 0).count();
    let bytes = if finished { writer.finish(listing, file, &header)? } else { writer.interrupt()? };
    Ok(Summary { images, bytes, found, skipped, finished })
}

/// Returns the path of the partial file, `FILE.partial`.
pub fn partial_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

fn already_there(file: &Path, header: &[u8], total: usize) -> Result<Summary> {
    let pack = Pack::open(file)?;
    if pack.map[..HEADER] != *header {
        let reason = "it exists, and is a pack of other images or with other settings; remove it or name another file";
        return Err(Error::malformed(file, reason));
    }
    let images = pack.train + pack.test;
    let bytes = pack.map.len() as u64;
    Ok(Summary { images, bytes, found: total, skipped: vec![], finished: true })
}

/// The record of an image, ready to be written.
struct Prepared {
    head: [u8; RECORD],
    bytes: Vec<u8>,
}

impl Prepared {
    fn new(number: usize, bytes: Vec<u8>, width: usize, height: usize) -> Prepared {
        let mut head = [0; RECORD];
        for (at, value) in [number, bytes.len(), width, height].into_iter().enumerate() {
            head[4 * at..][..4].copy_from_slice(&(value as u32).to_le_bytes());
        }
        let checksum = checksum(&head[..NUMBERS], &bytes);
        head[NUMBERS..].copy_from_slice(&checksum);
        Prepared { head, bytes }
    }
}

fn prepare(number: usize, path: &Path, options: &Options, decoder: &mut Decoder) -> Result<Prepared> {
    let original = fs::read(path).map_err(Error::io("read", path))?;
    let encode = || -> std::result::Result<(Vec<u8>, usize, usize), ImageError> {
        let (width, height) = decoder.probe(&original)?;
        match options.short_side {
            Some(short) if width.min(height) > short => {
                let image = decoder.decode(&original)?;
                let small = image::shrink(&image, short).expect("its shorter side is longer");
                Ok((image::encode_jpeg(&small, options.quality)?, small.width, small.height))
            }
            _ => Ok((original, width, height)),
        }
    };
    let (bytes, width, height) = encode().map_err(|error| Error::malformed(path, error.to_string()))?;
    if u32::try_from(bytes.len()).is_err() {
        return Err(Error::malformed(path, "the file is larger than 4 GB"));
    }
    Ok(Prepared::new(number, bytes, width, height))
}

/// The location of an image in the file.
struct Record {
    offset: u64,
    length: u32,
    width: u32,
    height: u32,
    checksum: [u8; 16],
}

impl Record {
    fn read(head: &[u8; RECORD], offset: u64) -> Record {
        let [length, width, height] = [4, 8, 12].map(|at| u32_at(head, at));
        Record { offset, length, width, height, checksum: head[NUMBERS..].try_into().expect("16 bytes") }
    }
}

struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    records: Vec<Record>,
    /// The offset of the next record.
    end: u64,
}

impl Writer {
    /// Begins a partial file, or opens an existing one and drops everything after its last intact record.
    fn open(path: &Path, header: &[u8], total: usize) -> Result<Writer> {
        let mut file = open_locked(path)?;
        let length = file.metadata().map_err(Error::io("examine", path))?.len();
        let mut begun = vec![];
        (&file).take(HEADER as u64).read_to_end(&mut begun).map_err(Error::io("read", path))?;
        let (records, end) = if begun.len() == HEADER {
            if begun != header {
                let reason = "it was begun with other images or settings; use those again, or remove it";
                return Err(Error::malformed(path, reason));
            }
            whole_records(&file, length, total).map_err(Error::io("read", path))?
        } else if header.starts_with(&begun) {
            file.rewind().and_then(|()| file.write_all(header)).map_err(Error::io("write", path))?;
            (vec![], HEADER as u64)
        } else {
            return Err(Error::malformed(path, "it is not the beginning of a pack; remove it"));
        };
        file.set_len(end).and_then(|()| file.seek(SeekFrom::End(0))).map_err(Error::io("write", path))?;
        Ok(Writer { path: path.to_path_buf(), file: BufWriter::with_capacity(1 << 20, file), records, end })
    }

    fn append(&mut self, image: &Prepared) -> Result<()> {
        let record = Record::read(&image.head, self.end + RECORD as u64);
        let written = self.file.write_all(&image.head).and_then(|()| self.file.write_all(&image.bytes));
        written.map_err(Error::io("write", &self.path))?;
        self.end = record.offset + u64::from(record.length);
        self.records.push(record);
        Ok(())
    }

    /// Flushes the partial file for a later run; returns its size in bytes.
    fn interrupt(mut self) -> Result<u64> {
        self.file.flush().map_err(Error::io("write", &self.path))?;
        Ok(self.end)
    }

    /// Writes index and footer, and renames the file; returns its size in bytes.
    fn finish(mut self, listing: &Listing, file: &Path, header: &[u8]) -> Result<u64> {
        let mut index = (listing.classes.len() as u32).to_le_bytes().to_vec();
        for class in &listing.classes {
            let length =
                u16::try_from(class.len()).map_err(|_| Error::malformed(file, "the name of a class is too long"))?;
            index.extend(length.to_le_bytes());
            index.extend(class.as_bytes());
        }
        let labels = listing.train.iter().chain(&listing.test).map(|entry| entry.label);
        let kept = |records: &[Record]| records.iter().filter(|record| record.length > 0).count();
        let train = kept(&self.records[..listing.train.len()]);
        let test = kept(&self.records[listing.train.len()..]);
        for (record, label) in self.records.iter().zip(labels).filter(|(record, _)| record.length > 0) {
            index.extend(record.offset.to_le_bytes());
            for number in [record.length, record.width, record.height] {
                index.extend(number.to_le_bytes());
            }
            index.extend(label.to_le_bytes());
            index.extend([0; 2]);
            index.extend(record.checksum);
        }
        let mut footer = vec![];
        for number in [self.end, index.len() as u64, train as u64, test as u64] {
            footer.extend(number.to_le_bytes());
        }
        footer.extend(index_digest(header, &index, train, test));
        footer.extend(MAGIC);
        let path = &self.path;
        let mut write = || -> std::io::Result<u64> {
            self.file.write_all(&index)?;
            self.file.write_all(&footer)?;
            self.file.flush()?;
            self.file.get_ref().sync_all()?;
            fs::rename(path, file)?;
            let folder = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            match File::open(folder).and_then(|folder| folder.sync_all()) {
                // Some network file systems cannot sync a directory; they order renames themselves.
                Err(error) if error.kind() != ErrorKind::InvalidInput => Err(error),
                _ => Ok(self.end + (index.len() + footer.len()) as u64),
            }
        };
        write().map_err(Error::io("write", path))
    }
}

/// Opens or creates a file, and locks it against other processes.
fn open_locked(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    // Retry only if another process renames or removes the file between opening and locking it.
    for _ in 0..10 {
        let file = options.open(path).map_err(Error::io("create", path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => break,
            // Proceed without a lock if the file system has none.
            _ if has_name(&file, path).map_err(Error::io("examine", path))? => return Ok(file),
            // The file is a finished pack now, and must not be modified.
            _ => {}
        }
    }
    Err(Error::malformed(path, "another process is writing it"))
}

/// Returns true if an open file is still the one at the path.
fn has_name(file: &File, path: &Path) -> std::io::Result<bool> {
    let open = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns the intact records of a partial file, and the offset at which they end.
fn whole_records(file: &File, length: u64, total: usize) -> std::io::Result<(Vec<Record>, u64)> {
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let (mut records, mut end, mut bytes) = (vec![], HEADER as u64, vec![]);
    while records.len() < total && end + RECORD as u64 <= length {
        let mut head = [0; RECORD];
        reader.read_exact(&mut head)?;
        let record = Record::read(&head, end + RECORD as u64);
        let next = record.offset + u64::from(record.length);
        if u32_at(&head, 0) as usize != records.len() || next > length {
            break;
        }
        bytes.resize(record.length as usize, 0);
        reader.read_exact(&mut bytes)?;
        // Skipped images have checksums too, because a file system may leave zeros, which must not pass as records.
        if checksum(&head[..NUMBERS], &bytes) != record.checksum {
            break;
        }
        end = next;
        records.push(record);
    }
    Ok((records, end))
}

// --- bytes ------------------------------------------------------------------------------------------------------

fn header(listing: &Listing, options: &Options) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    if let Some(side) = options.short_side {
        header[12..16].copy_from_slice(&(side as u32).to_le_bytes());
        header[16..20].copy_from_slice(&options.quality.to_le_bytes());
    }
    header[32..].copy_from_slice(listing_digest(listing).as_bytes());
    header
}

/// Returns a digest of the content of a pack and its order: classes, and images by folder, name and label.
fn listing_digest(listing: &Listing) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut line = String::new();
    for class in &listing.classes {
        let _ = writeln!(line, "class {class:?}");
    }
    hasher.update(line.as_bytes());
    let mut add = |split: Split, entries: &[Entry]| {
        for entry in entries {
            let name = entry.path.file_name().unwrap_or_default();
            let folder = entry.path.parent().and_then(Path::file_name).unwrap_or_default();
            line.clear();
            let _ = writeln!(line, "{split} {} {folder:?} {name:?}", entry.label);
            hasher.update(line.as_bytes());
        }
    };
    add(Split::Train, &listing.train);
    add(Split::Test, &listing.test);
    hasher.finalize()
}

fn index_digest(header: &[u8], index: &[u8], train: usize, test: usize) -> [u8; 24] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(header).update(index);
    hasher.update(&(train as u64).to_le_bytes()).update(&(test as u64).to_le_bytes());
    hasher.finalize().as_bytes()[..24].try_into().expect("24 of 32 bytes")
}

fn checksum(numbers: &[u8], bytes: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(numbers).update(bytes);
    hasher.finalize().as_bytes()[..16].try_into().expect("16 of 32 bytes")
}

/// Returns the class names at the beginning of an index, and their length in bytes.
fn read_classes(index: &[u8]) -> Option<(Vec<String>, usize)> {
    let count = u32::from_le_bytes(*index.first_chunk()?);
    let (mut classes, mut at) = (vec![], 4);
    for _ in 0..count {
        let length = usize::from(u16::from_le_bytes(*index.get(at..)?.first_chunk()?));
        classes.push(String::from_utf8(index.get(at + 2..at + 2 + length)?.to_vec()).ok()?);
        at += 2 + length;
    }
    Some((classes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

#[cfg(test)]
mod tests {
    use super::super::image::{Rgb, decode, encode_jpeg};
    use super::*;

    const OPTIONS: Options = Options { short_side: None, quality: 95, threads: 2, skip_unreadable: false };
    const SMALL: Options = Options { short_side: Some(24), ..OPTIONS };

    struct Images {
        folder: tempfile::TempDir,
        listing: Listing,
    }

    fn images() -> Images {
        let folder = tempfile::tempdir().unwrap();
        let entry = |split: &str, number: usize| {
            let (width, height) = (20 + number * 3, 40);
            let pixels = (0..width * height * 3).map(|at| (at * number / 7) as u8).collect();
            let class = folder.path().join(split).join(format!("n0000000{}", number % 2));
            fs::create_dir_all(&class).unwrap();
            let path = class.join(format!("{number}.JPEG"));
            fs::write(&path, encode_jpeg(&Rgb { width, height, pixels }, 90).unwrap()).unwrap();
            Entry { path, label: number as u16 % 2 }
        };
        let listing = Listing {
            classes: vec!["n00000000".to_string(), "n00000001".to_string()],
            train: (0..12).map(|number| entry("train", number)).collect(),
            test: (0..5).map(|number| entry("val", number)).collect(),
        };
        Images { folder, listing }
    }

    impl Images {
        fn file(&self) -> PathBuf {
            self.folder.path().join("images.pack")
        }

        fn pack(&self, options: &Options) -> Result<Summary> {
            pack(&self.listing, &self.file(), options, &AtomicBool::new(false), |_| ())
        }

        /// Packs until the file has `count` images.
        fn interrupt(&self, options: &Options, count: usize) {
            let stop = AtomicBool::new(false);
            let each = |progress: Progress| stop.store(progress.done >= count, Ordering::Relaxed);
            let summary = pack(&self.listing, &self.file(), options, &stop, each).unwrap();
            assert!(!summary.finished && summary.images == count && !self.file().exists());
        }
    }

    #[test]
    fn pack_returns_the_original_files() {
        let images = images();
        let summary = images.pack(&OPTIONS).unwrap();
        assert!(summary.finished && summary.images == 17 && summary.found == 0);
        assert_eq!(summary.bytes, fs::metadata(images.file()).unwrap().len());
        assert!(!partial_path(&images.file()).exists());
        let pack = Pack::open(&images.file()).unwrap();
        assert_eq!((pack.count(Split::Train), pack.count(Split::Test)), (12, 5));
        assert_eq!((pack.classes(), pack.short_side()), (&images.listing.classes[..], None));
        for (split, entries) in [(Split::Train, &images.listing.train), (Split::Test, &images.listing.test)] {
            for (index, entry) in entries.iter().enumerate() {
                assert_eq!(pack.bytes(split, index), fs::read(&entry.path).unwrap());
                assert_eq!(pack.label(split, index), entry.label);
                assert_eq!(pack.size(split, index), (20 + index * 3, 40));
                pack.verify(split, index).unwrap();
            }
        }
        assert!(check(&pack, 2, || ()).is_empty());
        assert_eq!(images.pack(&OPTIONS).unwrap().found, 17, "a second run finds all images");
        let error = images.pack(&SMALL).unwrap_err().to_string();
        assert!(error.contains("images.pack: it exists, and is a pack of other images"), "{error}");
    }

    #[test]
    fn shorter_sides_are_reduced_but_never_enlarged() {
        let images = images();
        images.pack(&SMALL).unwrap();
        let pack = Pack::open(&images.file()).unwrap();
        assert_eq!(pack.short_side(), Some(24));
        assert_eq!(pack.size(Split::Train, 1), (23, 40));
        assert_eq!(pack.bytes(Split::Train, 1), fs::read(&images.listing.train[1].path).unwrap());
        assert_eq!(pack.size(Split::Train, 11), (31, 24), "53 × 40 before");
        assert_eq!(image::size(pack.bytes(Split::Train, 11)), Ok((31, 24)));
        assert!(check(&pack, 1, || ()).is_empty());
    }

    #[test]
    fn interrupted_packing_gives_the_same_bytes() {
        for options in [OPTIONS, SMALL] {
            let reference = images();
            reference.pack(&Options { threads: 1, ..options }).unwrap();
            let expected = fs::read(reference.file()).unwrap();
            let images = images();
            let partial = partial_path(&images.file());
            images.interrupt(&options, 5);
            images.interrupt(&options, 9);
            let ninth = fs::metadata(&partial).unwrap().len();
            // Simulate a machine that stopped while a record was written.
            fs::OpenOptions::new().write(true).open(&partial).unwrap().set_len(ninth - 3).unwrap();
            assert_eq!(images.pack(&options).unwrap().found, 8);
            assert!(fs::read(images.file()).unwrap() == expected);

            // Simulate a stop at any position, including in the index, and a changed bit.
            let position = |end: usize| (expected.len() - 1).min(end);
            for end in (0..expected.len() + 200).step_by(201) {
                fs::remove_file(images.file()).unwrap();
                let mut bytes = expected[..position(end)].to_vec();
                if let Some(byte) = bytes.get_mut(1_000) {
                    *byte ^= 1;
                }
                fs::write(&partial, bytes).unwrap();
                images.pack(&options).unwrap();
                assert!(fs::read(images.file()).unwrap() == expected, "stopped at {end}");
            }
        }
    }

    #[test]
    fn zeros_at_the_end_of_an_interrupted_packing_are_dropped() {
        let reference = images();
        reference.pack(&OPTIONS).unwrap();
        let expected = fs::read(reference.file()).unwrap();
        // Zeros after the header, and after a few records.
        for count in [0, 5] {
            let images = images();
            let partial = partial_path(&images.file());
            if count == 0 {
                fs::write(&partial, &expected[..HEADER]).unwrap();
            } else {
                images.interrupt(&OPTIONS, count);
            }
            let length = fs::metadata(&partial).unwrap().len();
            fs::OpenOptions::new().write(true).open(&partial).unwrap().set_len(length + 4096).unwrap();
            let summary = images.pack(&OPTIONS).unwrap();
            assert_eq!((summary.images, summary.found, summary.skipped.len()), (17, count, 0));
            assert!(fs::read(images.file()).unwrap() == expected);
        }
    }

    #[test]
    fn packing_resumes_only_with_the_same_images_and_settings() {
        let mut images = images();
        images.interrupt(&OPTIONS, 5);
        let error = images.pack(&SMALL).unwrap_err().to_string();
        assert!(error.contains("images.pack.partial: it was begun with other images or settings"), "{error}");
        images.listing.train.swap(2, 3);
        assert!(images.pack(&OPTIONS).is_err());
        images.listing.train.swap(2, 3);
        assert!(images.pack(&OPTIONS).unwrap().finished);
    }

    #[test]
    fn damage_is_detected_anywhere_in_a_pack() {
        let images = images();
        images.pack(&OPTIONS).unwrap();
        let whole = fs::read(images.file()).unwrap();
        let index = u64_at(&whole[whole.len() - FOOTER..], 0) as usize;
        let open = |bytes: &[u8]| {
            let file = images.folder.path().join("damaged.pack");
            fs::write(&file, bytes).unwrap();
            Pack::open(&file).map_err(|error| error.to_string())
        };
        for end in (8..whole.len()).step_by(97) {
            let error = open(&whole[..end]).err().unwrap();
            assert!(error.contains(&format!("damaged.pack: the pack is cut off at byte {end}")), "{error}");
        }
        assert!(open(b"").is_err());
        for at in (0..HEADER).chain(index..whole.len()) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            assert!(open(&bytes).is_err(), "byte {at}");
        }
        let mut bytes = whole.clone();
        bytes[8] = 2;
        let error = open(&bytes).err().unwrap();
        assert!(error.ends_with("it has version 2, but this winsign reads version 1"), "{error}");
        // Damage in the numbers before an image, and in the image.
        for at in [HEADER + 8, HEADER + RECORD + 20] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            let pack = open(&bytes).unwrap();
            let wrong: Vec<String> = check(&pack, 2, || ()).iter().map(Error::to_string).collect();
            assert_eq!(wrong.len(), 1);
            let expected = "train image 0 (counted from 0), at byte 96: its bytes do not match their checksum";
            assert!(wrong[0].ends_with(expected), "{wrong:?}");
        }
    }

    #[test]
    fn damaged_image_stops_the_packing_or_is_skipped() {
        let images = images();
        let bad = &images.listing.train[7].path;
        fs::write(bad, &fs::read(bad).unwrap()[..400]).unwrap();
        let error = images.pack(&OPTIONS).unwrap_err().to_string();
        assert!(error.contains("7.JPEG: the image is cut off: the file ends at byte 400"), "{error}");
        let skipping = Options { skip_unreadable: true, ..OPTIONS };
        let summary = images.pack(&skipping).unwrap();
        assert_eq!((summary.images, summary.found, summary.skipped.len()), (16, 7, 1));
        assert_eq!(summary.skipped[0].0, *bad);
        fs::rename(images.file(), partial_path(&images.file())).unwrap();
        let again = images.pack(&skipping).unwrap();
        assert_eq!((again.images, again.found, again.skipped.len()), (16, 17, 1), "skipped images stay skipped");
        let pack = Pack::open(&images.file()).unwrap();
        assert_eq!((pack.count(Split::Train), pack.count(Split::Test)), (11, 5));
        assert_eq!(pack.size(Split::Train, 7), (44, 40), "the next image has taken its place");
        assert!(decode(pack.bytes(Split::Train, 7)).is_ok());
    }

    #[test]
    fn pack_is_locked_while_it_is_written() {
        let images = images();
        let other = File::create(partial_path(&images.file())).unwrap();
        rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
        let error = images.pack(&OPTIONS).unwrap_err().to_string();
        assert!(error.ends_with("another process is writing it"), "{error}");
    }

    #[test]
    fn finished_pack_is_not_opened_for_writing() {
        let images = images();
        let partial = partial_path(&images.file());
        let opened = open_locked(&partial).unwrap();
        assert!(has_name(&opened, &partial).unwrap());
        fs::rename(&partial, images.file()).unwrap();
        assert!(!has_name(&opened, &partial).unwrap(), "nothing has that name");
        let new = open_locked(&partial).unwrap();
        assert!(!has_name(&opened, &partial).unwrap(), "another file has it");
        assert!(has_name(&new, &partial).unwrap() && has_name(&opened, &images.file()).unwrap());
    }

    #[test]
    fn simultaneous_packings_make_one_intact_pack() {
        for _ in 0..20 {
            let images = images();
            let results: Vec<Result<Summary>> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| images.pack(&OPTIONS))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(results.iter().any(Result::is_ok), "{results:?}");
            for error in results.iter().filter_map(|result| result.as_ref().err()) {
                assert!(error.to_string().ends_with("another process is writing it"), "{error}");
            }
            assert!(check(&Pack::open(&images.file()).unwrap(), 1, || ()).is_empty());
            assert!(!partial_path(&images.file()).exists());
        }
    }
}
