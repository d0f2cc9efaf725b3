//! Training curves for TensorBoard: a folder for each run, with one file of events.
//!
//! A file is a row of records (TensorFlow's `TFRecord`): the length as 8 bytes, a checksum of these, the content, a checksum
//! of that; all little-endian, checksums masked CRC-32C. The content is a protocol buffer, `Event`, of which few fields are
//! needed, and little of the encoding: each field is a key, `number << 3 | type`, and its value.
//!
//! ```text
//! Event    1: wall_time (double)   2: step (int64)   3: file_version (string)   5: summary (Summary)
//! Summary  1: value (Value, repeated)
//! Value    1: tag (string)         2: simple_value (float)
//! ```

use std::path::{Path, PathBuf};

use winsign_core::RunId;
use winsign_core::error::Result;
use winsign_core::files::{create_directory, write_atomic};
use winsign_core::results::EpochMetrics;

/// TensorBoard looks for files with `tfevents` in their names.
const FILE: &str = "events.out.tfevents.winsign";

/// Types of fields.
const VARINT: u8 = 0;
const FIXED_64: u8 = 1;
const BYTES: u8 = 2;
const FIXED_32: u8 = 5;

/// Writes all epochs of a run to a folder of its own in `directory`, and returns the path of the file. The `wall_time`
/// of every event is the time at which the run was `finished`, since times of epochs are not recorded; so the file does
/// not depend on when it is written.
pub fn write(
    directory: &Path,
    label: &str,
    id: &RunId,
    finished: jiff::Timestamp,
    metrics: &[EpochMetrics],
) -> Result<PathBuf> {
    let folder = directory.join(folder_name(label, id));
    create_directory(&folder)?;
    let path = folder.join(FILE);
    write_atomic(&path, &events(finished, metrics))?;
    Ok(path)
}

/// Returns the label of the run, restricted to characters that file systems accept, and its identity.
fn folder_name(label: &str, id: &RunId) -> String {
    const MOST: usize = 120;
    let safe = |character: char| {
        if character.is_alphanumeric() || " -_.,+()".contains(character) { character } else { '-' }
    };
    let label: String = label.chars().map(safe).take(MOST).collect();
    let label = label.trim_matches(['.', ' ', '-']);
    format!("{label} {id}")
}

/// Returns the content of the file.
fn events(finished: jiff::Timestamp, metrics: &[EpochMetrics]) -> Vec<u8> {
    let wall_time = finished.as_millisecond() as f64 / 1e3;
    let version = [field(1, FIXED_64, &wall_time.to_le_bytes()), bytes(3, b"brain.Event:2")].concat();
    let mut file = record(&version);
    for epoch in metrics {
        let values = [
            ("train_loss", epoch.train_loss),
            ("train_error", epoch.train_error),
            ("test_loss", epoch.test_loss),
            ("test_error", epoch.test_error),
            ("lr", epoch.lr),
        ];
        let summary: Vec<u8> = values.iter().flat_map(|&(tag, value)| bytes(1, &scalar(tag, value))).collect();
        let event = [
            field(1, FIXED_64, &wall_time.to_le_bytes()),
            field(2, VARINT, &varint(epoch.epoch.into())),
            bytes(5, &summary),
        ];
        file.extend(record(&event.concat()));
    }
    file
}

fn scalar(tag: &str, value: f64) -> Vec<u8> {
    [bytes(1, tag.as_bytes()), field(2, FIXED_32, &(value as f32).to_le_bytes())].concat()
}

fn field(number: u8, of_type: u8, value: &[u8]) -> Vec<u8> {
    [&[number << 3 | of_type], value].concat()
}

/// Returns a field with a text or a nested message, whose length comes first.
fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    field(number, BYTES, &[&varint(content.len() as u64)[..], content].concat())
}

/// Encodes a number with seven bits per byte, the lowest first; all but the last have the highest bit set.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = vec![];
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn record(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_le_bytes();
    [&length[..], &masked_checksum(&length), content, &masked_checksum(content)].concat()
}

/// Returns the masked checksum, for bytes that may contain checksums: rotated by 15 bits, with a constant added.
fn masked_checksum(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(epochs: u32) -> Vec<EpochMetrics> {
        let epoch = |epoch: u32| EpochMetrics {
            epoch,
            lr: 0.1 / f64::from(epoch),
            train_loss: 2.0,
            train_error: 3.0,
            test_loss: f64::NAN,
            test_error: 4.0 + f64::from(epoch),
        };
        (1..=epochs).map(epoch).collect()
    }

    /// Returns the contents of records, and checks every length and checksum.
    fn records(mut file: &[u8]) -> Vec<Vec<u8>> {
        let mut found = vec![];
        while let Some((length, rest)) = file.split_first_chunk::<8>() {
            let (checksum, rest) = rest.split_first_chunk::<4>().unwrap();
            assert_eq!(*checksum, masked_checksum(length));
            let (content, rest) = rest.split_at(u64::from_le_bytes(*length) as usize);
            let (checksum, rest) = rest.split_first_chunk::<4>().unwrap();
            assert_eq!(*checksum, masked_checksum(content));
            found.push(content.to_vec());
            file = rest;
        }
        assert!(file.is_empty());
        found
    }

    /// Returns the fields of a message, each with its number and the bytes of its value.
    fn fields(mut message: &[u8]) -> Vec<(u8, Vec<u8>)> {
        fn number(message: &mut &[u8]) -> u64 {
            let length = message.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
            let (bytes, rest) = message.split_at(length);
            *message = rest;
            bytes.iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f))
        }
        let mut found = vec![];
        while !message.is_empty() {
            let key = number(&mut message);
            let length = match key as u8 & 7 {
                VARINT => {
                    found.push(((key >> 3) as u8, number(&mut message).to_le_bytes().to_vec()));
                    continue;
                }
                FIXED_64 => 8,
                FIXED_32 => 4,
                BYTES => number(&mut message) as usize,
                other => panic!("type {other}"),
            };
            let (value, rest) = message.split_at(length);
            found.push(((key >> 3) as u8, value.to_vec()));
            message = rest;
        }
        found
    }

    #[test]
    fn checksums_match_known_values() {
        // CRC-32C of nine digits is a known number; the mask is undone by hand.
        let masked = u32::from_le_bytes(masked_checksum(b"123456789"));
        assert_eq!(masked.wrapping_sub(0xa282_ead8).rotate_left(15), 0xe306_9283);
        assert_eq!(varint(300), [0xac, 0x02]);
        assert_eq!(varint(127), [0x7f]);
    }

    #[test]
    fn every_epoch_is_an_event_with_all_numbers() {
        let finished = jiff::Timestamp::from_millisecond(1_700_000_000_500).unwrap();
        let file = events(finished, &metrics(300));
        assert_eq!(file, events(finished, &metrics(300)));
        let records = records(&file);
        assert_eq!(records.len(), 301);
        assert_eq!(fields(&records[0])[1], (3, b"brain.Event:2".to_vec()));
        let event = fields(&records[300]);
        assert_eq!(event[0], (1, 1_700_000_000.5f64.to_le_bytes().to_vec()));
        assert_eq!(event[1], (2, 300u64.to_le_bytes().to_vec()));
        assert_eq!(event[2].0, 5);
        let values: Vec<(String, f32)> = (fields(&event[2].1).iter())
            .map(|(number, value)| {
                assert_eq!(*number, 1);
                let value = fields(value);
                let number = f32::from_le_bytes(value[1].1[..].try_into().unwrap());
                (String::from_utf8(value[0].1.clone()).unwrap(), number)
            })
            .collect();
        let tags: Vec<&str> = values.iter().map(|(tag, _)| tag.as_str()).collect();
        assert_eq!(tags, ["train_loss", "train_error", "test_loss", "test_error", "lr"]);
        assert_eq!((values[0].1, values[3].1, values[4].1), (2.0, 304.0, (0.1f64 / 300.0) as f32));
        assert!(values[2].1.is_nan());
    }

    #[test]
    fn folder_names_have_only_safe_characters() {
        let id: RunId = "3f09c2aa41d07e55".parse().unwrap();
        assert_eq!(folder_name("lrr level 12, sign, seed 3", &id), "lrr level 12, sign, seed 3 3f09c2aa41d07e55");
        assert_eq!(folder_name("../../etc/<x>\n", &id), "etc--x 3f09c2aa41d07e55");
        assert_eq!(folder_name(&"ψ".repeat(500), &id).chars().count(), 120 + 17);
        let scratch = tempfile::tempdir().unwrap();
        let path = write(scratch.path(), "a/b", &id, jiff::Timestamp::UNIX_EPOCH, &metrics(2)).unwrap();
        assert_eq!(path, scratch.path().join("a-b 3f09c2aa41d07e55").join(FILE));
    }
}
