//! Networks on disk: safetensors files with PyTorch's names, and a digest that detects damage.
//!
//! Any program that reads safetensors can read these files. Their metadata holds a JSON text (`winsign`) and a digest
//! of everything else in the file.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::error::{Error, Result};
use super::files;

/// Named tensors, and their metadata as a JSON text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TensorFile {
    pub tensors: BTreeMap<String, RawTensor>,
    pub metadata: String,
}

/// A tensor: its values as bytes, in row-major order and little-endian.
#[derive(Debug, Clone, PartialEq)]
pub struct RawTensor {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

const DIGEST: &str = "blake3";
const METADATA: &str = "winsign";

impl TensorFile {
    /// Returns a hash of every name, type, shape and value, and of the metadata: 32 hexadecimal digits.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        // Lengths are hashed before contents, so that different files never feed the same bytes to the hasher.
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(self.metadata.as_bytes());
        for (name, tensor) in &self.tensors {
            part(name.as_bytes());
            part(format!("{:?} {:?}", tensor.dtype, tensor.shape).as_bytes());
            part(&tensor.bytes);
        }
        hasher.finalize().to_hex()[..32].to_string()
    }

    /// Writes the file atomically; returns its digest, and its size in bytes.
    pub fn write(&self, path: &Path) -> Result<(String, u64)> {
        let digest = self.digest();
        let mut header = self.header();
        header.insert(DIGEST.to_string(), digest.clone());
        let bytes = self.serialize(header);
        files::write_atomic(path, &bytes)?;
        Ok((digest, bytes.len() as u64))
    }

    /// Writes the file atomically for other programs, with `metadata` in its header and without a digest. Returns its
    /// size in bytes.
    pub fn export(&self, path: &Path, metadata: HashMap<String, String>) -> Result<u64> {
        let bytes = self.serialize(metadata);
        files::write_atomic(path, &bytes)?;
        Ok(bytes.len() as u64)
    }

    /// Reads a safetensors file of any program, without its metadata.
    pub fn read_foreign(path: &Path) -> Result<TensorFile> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        Ok(TensorFile::parse(path, &bytes)?.0)
    }

    /// Reads and verifies a file that [`TensorFile::write`] wrote; returns `None` if it does not exist.
    pub fn read(path: &Path) -> Result<Option<TensorFile>> {
        files::read_if_exists(path)?.map(|bytes| TensorFile::verify(path, &bytes)).transpose()
    }

    /// Verifies the bytes of a file that [`TensorFile::write`] wrote. `path` is used in error messages.
    pub fn verify(path: &Path, bytes: &[u8]) -> Result<TensorFile> {
        let (tensors, header) = TensorFile::parse(path, bytes)?;
        let file = TensorFile { metadata: header.get(METADATA).cloned().unwrap_or_default(), ..tensors };
        match header.get(DIGEST) {
            None => Err(Error::damaged(path, "it has no digest")),
            Some(stated) if *stated != file.digest() => {
                Err(Error::damaged(path, "its content does not match its digest"))
            }
            Some(_) => Ok(file),
        }
    }

    /// Serializes the file to send it to another process.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.serialize(self.header())
    }

    /// Deserializes the bytes that [`TensorFile::to_bytes`] returned.
    ///
    /// # Panics
    ///
    /// Panics on any other bytes.
    pub fn from_bytes(bytes: &[u8]) -> TensorFile {
        let (file, header) = TensorFile::parse(Path::new(""), bytes).expect("a process sends whole files");
        TensorFile { metadata: header.get(METADATA).cloned().unwrap_or_default(), ..file }
    }

    fn header(&self) -> HashMap<String, String> {
        HashMap::from([(METADATA.to_string(), self.metadata.clone())])
    }

    fn serialize(&self, header: HashMap<String, String>) -> Vec<u8> {
        let views: Vec<(&String, TensorView)> = (self.tensors.iter())
            .map(|(name, tensor)| {
                let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes);
                (name, view.expect("a tensor's bytes fit its shape"))
            })
            .collect();
        safetensors::serialize(views, Some(header)).expect("tensor views serialize")
    }

    /// Parses a file into its tensors and the texts of its header.
    fn parse(path: &Path, bytes: &[u8]) -> Result<(TensorFile, HashMap<String, String>)> {
        let damaged = |error: safetensors::SafeTensorError| Error::damaged(path, error.to_string());
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let views = SafeTensors::deserialize(bytes).map_err(damaged)?;
        let tensors = views.iter().map(|(name, view)| {
            let raw = RawTensor { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: view.data().to_vec() };
            (name.to_string(), raw)
        });
        let file = TensorFile { tensors: tensors.collect(), metadata: String::new() };
        Ok((file, header.metadata().clone().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> TensorFile {
        let tensor = |values: &[f32], shape: &[usize]| RawTensor {
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        TensorFile {
            tensors: BTreeMap::from([
                ("fc.weight".to_string(), tensor(&[1.0, -2.5, 0.0, 4.0, 5.0, 6.0], &[2, 3])),
                ("fc.bias".to_string(), tensor(&[0.5, -0.5], &[2])),
            ]),
            metadata: r#"{"epoch":3}"#.to_string(),
        }
    }

    #[test]
    fn written_tensors_are_read_back_unchanged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("network.safetensors");
        let (digest, bytes) = sample().write(&path).unwrap();
        assert_eq!(bytes, std::fs::metadata(&path).unwrap().len());
        let read = TensorFile::read(&path).unwrap().unwrap();
        assert_eq!((read.digest(), &read), (digest, &sample()));
        assert_eq!(TensorFile::read(&directory.path().join("none")).unwrap(), None);
    }

    #[test]
    fn read_detects_every_cut_and_changed_byte() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("network.safetensors");
        sample().write(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(matches!(TensorFile::read(&path), Err(Error::Damaged { .. })), "cut at {length}");
        }
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 4;
            std::fs::write(&path, &changed).unwrap();
            match TensorFile::read(&path) {
                Err(Error::Damaged { .. }) => {}
                Ok(Some(read)) => assert_eq!(read, sample(), "byte {index} changed the content unnoticed"),
                other => panic!("byte {index}: {other:?}"),
            }
        }
    }
}
