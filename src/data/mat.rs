//! The list of synsets in `meta.mat` of the devkit of ImageNet: a reader and a writer for the required subset of the
//! format of MATLAB.
//!
//! The format is described in "MAT-File Format" by The MathWorks, for level 5: a header of 128 bytes, then elements,
//! each with a tag (type and length), most of them compressed. `synsets` is a matrix of structures.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use super::error::{Error, Result};

/// A class, or a group of classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Synset {
    /// `ILSVRC2012_ID`: the number, counted from 1; classes precede groups.
    pub id: u32,
    /// `WNID`: the WordNet id, which is also the name of the folder.
    pub wnid: String,
}

/// Reads the `synsets` of a file, in their order.
pub(crate) fn read_synsets(path: &Path) -> Result<Vec<Synset>> {
    let file = fs::read(path).map_err(Error::io("read", path))?;
    parse(&file).map_err(|reason| Error::malformed(path, reason))
}

/// Parses a file. Errors include the offset in the file, or in the content of a compressed element.
fn parse(file: &[u8]) -> std::result::Result<Vec<Synset>, String> {
    if file.len() < HEADER {
        return Err(format!(
            "it is truncated: a MATLAB file has a header of {HEADER} bytes, and this one ends at byte {}",
            file.len()
        ));
    }
    match &file[HEADER - 4..HEADER] {
        [0x00, 0x01, b'I', b'M'] => {}
        [0x01, 0x00, b'M', b'I'] => {
            return Err("big-endian files are not supported".to_string());
        }
        other => return Err(format!("it is not a MATLAB file of level 5: bytes 124 to 127 are {other:02x?}")),
    }
    let mut elements = Reader { bytes: file, at: HEADER, place: String::new() };
    while !elements.is_at_end() {
        let start = elements.at;
        let (kind, content) = elements.element()?;
        let unpacked;
        let mut reader = match kind {
            COMPRESSED => {
                let mut bytes = vec![];
                let limit = UNPACKED_LIMIT + 1;
                let unpacking = flate2::read::ZlibDecoder::new(content).take(limit).read_to_end(&mut bytes);
                unpacking.map_err(|error| format!("the compressed element at byte {start} is damaged: {error}"))?;
                if bytes.len() as u64 == limit {
                    return Err(format!("the compressed element at byte {start} is larger than any list of synsets"));
                }
                unpacked = bytes;
                Reader { bytes: &unpacked, at: 0, place: format!(" of the uncompressed element of byte {start}") }
            }
            _ => Reader { bytes: file, at: start, place: String::new() },
        };
        let (kind, content) = reader.element()?;
        if kind == MATRIX {
            let mut matrix = reader.within(content);
            if let Some(synsets) = matrix.synsets()? {
                return Ok(synsets);
            }
        }
    }
    Err("it has no structure array \"synsets\" (or is truncated before it)".to_string())
}

const HEADER: usize = 128;
/// The maximum size of an uncompressed element in bytes; the published list has 1.5 MB.
const UNPACKED_LIMIT: u64 = 1 << 28;

// Types of elements.
const INT8: u32 = 1;
const UINT8: u32 = 2;
const INT16: u32 = 3;
const UINT16: u32 = 4;
const INT32: u32 = 5;
const UINT32: u32 = 6;
const SINGLE: u32 = 7;
const DOUBLE: u32 = 9;
const INT64: u32 = 12;
const UINT64: u32 = 13;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;
const UTF8: u32 = 16;

// Classes of matrices.
const STRUCTURE: u8 = 2;
const CHARACTERS: u8 = 4;
const NUMBERS: std::ops::RangeInclusive<u8> = 6..=15;

/// A reader of consecutive elements.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The start of the offsets in messages, if it is not that of the file.
    place: String,
}

impl<'a> Reader<'a> {
    fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Returns a reader of the content of the element that was read last; offsets continue.
    fn within(&self, content: &'a [u8]) -> Reader<'a> {
        let start = content.as_ptr() as usize - self.bytes.as_ptr() as usize;
        Reader { bytes: &self.bytes[..start + content.len()], at: start, place: self.place.clone() }
    }

    /// Reads the next element; returns its type and content.
    fn element(&mut self) -> std::result::Result<(u32, &'a [u8]), String> {
        let start = self.at;
        let word = self.word()?;
        // The tag itself may contain up to four bytes.
        if word >> 16 != 0 {
            let (kind, length) = (word & 0xffff, (word >> 16) as usize);
            let content = self.take(4)?;
            let content =
                content.get(..length).ok_or_else(|| self.wrong(start, "a small element has more than 4 bytes"))?;
            return Ok((kind, content));
        }
        let length = self.word()? as usize;
        let content = self.take(length)?;
        // All but compressed elements are padded to 8 bytes, except possibly the last one of a file.
        if word != COMPRESSED {
            self.at = (self.at + length.wrapping_neg() % 8).min(self.bytes.len());
        }
        Ok((word, content))
    }

    /// Reads the content of a matrix; returns its synsets, if it is the structure array of that name.
    fn synsets(&mut self) -> std::result::Result<Option<Vec<Synset>>, String> {
        let start = self.at;
        let head = self.matrix_head()?;
        if head.name != b"synsets" {
            return Ok(None);
        }
        if head.class != STRUCTURE {
            return Err(self.wrong(start, "\"synsets\" is not an array of structures"));
        }
        let (_, length) = self.element()?;
        let length = number(INT32, length).filter(|length| (1.0..=64.0).contains(length));
        let length = length.ok_or_else(|| self.wrong(start, "the length of field names is missing"))? as usize;
        let (_, names) = self.element()?;
        let names: Vec<&[u8]> = names.chunks(length).map(until_zero).collect();
        let field = |name: &str| {
            let place = names.iter().position(|&other| other == name.as_bytes());
            place.ok_or_else(|| self.wrong(start, &format!("\"synsets\" has no field {name}")))
        };
        let (id_field, wnid_field) = (field("ILSVRC2012_ID")?, field("WNID")?);
        let mut synsets = vec![];
        for _ in 0..head.count {
            let mut id = None;
            let mut wnid = None;
            for index in 0..names.len() {
                let start = self.at;
                let (kind, content) = self.element()?;
                if kind != MATRIX {
                    return Err(self.wrong(start, "a field is not a matrix"));
                }
                if index == id_field {
                    id = Some(self.within(content).whole_number()?);
                } else if index == wnid_field {
                    wnid = Some(self.within(content).text()?);
                }
            }
            synsets.extend(id.zip(wnid).map(|(id, wnid)| Synset { id, wnid }));
        }
        Ok(Some(synsets))
    }

    /// Reads the content of a matrix; returns its only value.
    fn whole_number(&mut self) -> std::result::Result<u32, String> {
        let start = self.at;
        let head = self.matrix_head()?;
        let (kind, content) = self.element()?;
        let value = number(kind, content).filter(|_| head.count == 1 && NUMBERS.contains(&head.class));
        let whole = value.filter(|value| value.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(value));
        whole.map(|value| value as u32).ok_or_else(|| self.wrong(start, "an ILSVRC2012_ID is not one whole number"))
    }

    /// Reads the content of a matrix; returns its characters as a string.
    fn text(&mut self) -> std::result::Result<String, String> {
        let start = self.at;
        let head = self.matrix_head()?;
        let (kind, content) = self.element()?;
        let text = match kind {
            UINT16 => {
                let units = content.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
                String::from_utf16(&units.collect::<Vec<_>>()).ok()
            }
            INT8 | UINT8 | UTF8 => String::from_utf8(content.to_vec()).ok(),
            _ => None,
        };
        let text = text.filter(|_| head.class == CHARACTERS);
        text.ok_or_else(|| self.wrong(start, "a WNID is not a text"))
    }

    fn matrix_head(&mut self) -> std::result::Result<MatrixHead<'a>, String> {
        let start = self.at;
        let (kind, flags) = self.element()?;
        let (UINT32, [class, ..]) = (kind, flags) else {
            return Err(self.wrong(start, "a matrix has no flags"));
        };
        let (kind, sizes) = self.element()?;
        let sizes =
            (kind == INT32).then(|| sizes.chunks(4).map(|size| number(INT32, size)).collect::<Option<Vec<_>>>());
        let count = sizes.flatten().map(|sizes| sizes.iter().product::<f64>());
        let count = count.filter(|count| (0.0..1e9).contains(count)).map(|count| count as usize);
        let count = count.ok_or_else(|| self.wrong(start, "a matrix has no size"))?;
        let (_, name) = self.element()?;
        Ok(MatrixHead { class: *class, count, name })
    }

    fn word(&mut self) -> std::result::Result<u32, String> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes")))
    }

    fn take(&mut self, length: usize) -> std::result::Result<&'a [u8], String> {
        let taken = self.at.checked_add(length).and_then(|end| self.bytes.get(self.at..end));
        let end = self.bytes.len();
        let taken =
            taken.ok_or_else(|| self.wrong(self.at, &format!("truncated: an element ends beyond byte {end}")))?;
        self.at += length;
        Ok(taken)
    }

    fn wrong(&self, at: usize, reason: &str) -> String {
        format!("at byte {at}{}: {reason}", self.place)
    }
}

struct MatrixHead<'a> {
    class: u8,
    /// The product of the dimensions.
    count: usize,
    name: &'a [u8],
}

/// Returns the only number in an element of any numeric type.
fn number(kind: u32, content: &[u8]) -> Option<f64> {
    Some(match kind {
        INT8 => f64::from(i8::from_le_bytes(content.try_into().ok()?)),
        UINT8 => f64::from(u8::from_le_bytes(content.try_into().ok()?)),
        INT16 => f64::from(i16::from_le_bytes(content.try_into().ok()?)),
        UINT16 => f64::from(u16::from_le_bytes(content.try_into().ok()?)),
        INT32 => f64::from(i32::from_le_bytes(content.try_into().ok()?)),
        UINT32 => f64::from(u32::from_le_bytes(content.try_into().ok()?)),
        SINGLE => f64::from(f32::from_le_bytes(content.try_into().ok()?)),
        DOUBLE => f64::from_le_bytes(content.try_into().ok()?),
        INT64 => i64::from_le_bytes(content.try_into().ok()?) as f64,
        UINT64 => u64::from_le_bytes(content.try_into().ok()?) as f64,
        _ => return None,
    })
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len())]
}

/// Returns a file that has `synsets` with the fields of the devkit, as `winsign data synth` writes it.
pub(crate) fn synsets_file(synsets: &[Synset], train_images: &[usize]) -> Vec<u8> {
    const FIELDS: [&str; 8] =
        ["ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height", "num_train_images"];
    const NAME_LENGTH: usize = 32;
    let mut names = vec![0; FIELDS.len() * NAME_LENGTH];
    for (name, slot) in FIELDS.iter().zip(names.chunks_mut(NAME_LENGTH)) {
        slot[..name.len()].copy_from_slice(name.as_bytes());
    }
    let mut content = matrix_head(STRUCTURE, synsets.len(), 1, "synsets");
    content.extend(element(INT32, &(NAME_LENGTH as i32).to_le_bytes()));
    content.extend(element(INT8, &names));
    for (synset, &images) in synsets.iter().zip(train_images) {
        content.extend(number_matrix(Some(f64::from(synset.id))));
        content.extend(text_matrix(&synset.wnid));
        content.extend(text_matrix(&format!("class {}", synset.id)));
        content.extend(text_matrix("a pattern made by winsign"));
        content.extend(number_matrix(Some(0.0)));
        content.extend(number_matrix(None));
        content.extend(number_matrix(Some(0.0)));
        content.extend(number_matrix(Some(images as f64)));
    }
    let mut packer = flate2::write::ZlibEncoder::new(vec![], flate2::Compression::default());
    packer.write_all(&element(MATRIX, &content)).expect("memory takes everything");
    let packed = packer.finish().expect("memory takes everything");

    let mut file = format!("{:<116}", "MATLAB 5.0 MAT-file, made by winsign").into_bytes();
    // No subsystem, then the version, and the mark of the byte order.
    file.extend([0; 8]);
    file.extend([0x00, 0x01, b'I', b'M']);
    file.extend(COMPRESSED.to_le_bytes());
    file.extend((packed.len() as u32).to_le_bytes());
    file.extend(packed);
    file
}

fn element(kind: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = [kind.to_le_bytes(), (content.len() as u32).to_le_bytes()].concat();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn matrix_head(class: u8, rows: usize, columns: usize, name: &str) -> Vec<u8> {
    let sizes = [(rows as i32).to_le_bytes(), (columns as i32).to_le_bytes()].concat();
    [element(UINT32, &[class, 0, 0, 0, 0, 0, 0, 0]), element(INT32, &sizes), element(INT8, name.as_bytes())].concat()
}

fn number_matrix(value: Option<f64>) -> Vec<u8> {
    const DOUBLES: u8 = 6;
    let size = usize::from(value.is_some());
    let data = value.map_or(vec![], |value| value.to_le_bytes().to_vec());
    element(MATRIX, &[matrix_head(DOUBLES, size, size, ""), element(DOUBLE, &data)].concat())
}

fn text_matrix(text: &str) -> Vec<u8> {
    let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    element(MATRIX, &[matrix_head(CHARACTERS, 1, units.len() / 2, ""), element(UINT16, &units)].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that scipy wrote; see `fixtures/make.py`.
    const PACKED: &[u8] = include_bytes!("fixtures/meta.mat");
    const PLAIN: &[u8] = include_bytes!("fixtures/meta-plain.mat");

    fn expected() -> Vec<Synset> {
        [
            (1, "n02119789"),
            (2, "n02100735"),
            (3, "n02110185"),
            (1000, "n03255030"),
            (1001, "n02085374"),
            (1860, "n00001740"),
        ]
        .map(|(id, wnid)| Synset { id, wnid: wnid.to_string() })
        .to_vec()
    }

    #[test]
    fn file_of_scipy_is_read() {
        assert_eq!(parse(PACKED).unwrap(), expected());
        assert_eq!(parse(PLAIN).unwrap(), expected());
    }

    #[test]
    fn written_file_is_read() {
        assert_eq!(parse(&synsets_file(&expected(), &[5; 6])).unwrap(), expected());
        assert_eq!(parse(&synsets_file(&[], &[])).unwrap(), []);
    }

    #[test]
    fn every_truncation_is_an_error() {
        for file in [PACKED.to_vec(), PLAIN.to_vec(), synsets_file(&expected(), &[5; 6])] {
            for length in 0..file.len() {
                let error = parse(&file[..length]).unwrap_err();
                assert!(error.contains("truncated") || error.contains("damaged"), "cut at {length}: {error}");
            }
        }
    }

    #[test]
    fn changed_bytes_never_panic() {
        for file in [PACKED, PLAIN] {
            for place in 0..file.len() {
                for change in [1, 0x10, 0x80, 0xff] {
                    let mut damaged = file.to_vec();
                    damaged[place] ^= change;
                    let _ = parse(&damaged);
                }
            }
        }
    }

    #[test]
    fn other_files_are_refused() {
        assert!(parse(&[b'x'; 500]).unwrap_err().contains("not a MATLAB file of level 5"));
        let mut other = PLAIN.to_vec();
        let place = other.windows(7).position(|bytes| bytes == b"synsets").unwrap();
        other[place] = b'S';
        assert!(parse(&other).unwrap_err().contains("no structure array \"synsets\""));
    }
}
