//! Decoding of JPEG and PNG files: the whole image, or only the part that a crop needs, resized.
//!
//! The pixels are those of `PIL.Image.open(file).convert("RGB")`, and resizing equals the bilinear filter of PIL with
//! antialiasing, to within 1 of 255 (`tests` compare). As in PIL, the content decides the format and not the name, EXIF
//! data is ignored, and problems for which libjpeg only issues warnings are accepted, except for files that end too
//! early.

use std::cell::RefCell;
use std::ffi::{CStr, c_int};
use std::io::{Cursor, ErrorKind};
use std::ptr::NonNull;

use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8x3, U8x4};
use fast_image_resize::{FilterType, ImageView, PixelTrait, ResizeAlg, ResizeOptions, Resizer};
use turbojpeg::raw;

use super::crop::{self, Region};

/// An image in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgb {
    pub width: usize,
    pub height: usize,
    /// The pixels, interleaved: height × width × 3 bytes.
    pub pixels: Vec<u8>,
}

/// The reason for which bytes cannot be decoded. The caller adds the name of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    #[error("the file is empty")]
    Empty,
    #[error("it is neither a JPEG nor a PNG image: it begins with the bytes {begins}")]
    Unknown { begins: String },
    #[error("the image is cut off: the file ends at byte {end}, before the image does")]
    Truncated { end: usize },
    #[error("its header claims {width} × {height} pixels, {limit}")]
    TooLarge { width: usize, height: usize, limit: String },
    #[error("the JPEG is damaged or unsupported: {0}")]
    Jpeg(String),
    #[error("the PNG is damaged or unsupported: {0}")]
    Png(String),
    #[error("cannot encode the image as a JPEG: {0}")]
    Encode(String),
}

/// Returns width and height in pixels, from the header alone.
pub fn size(bytes: &[u8]) -> Result<(usize, usize), ImageError> {
    DECODER.with_borrow_mut(|decoder| decoder.size(bytes))
}

/// Decodes the whole image.
pub fn decode(bytes: &[u8]) -> Result<Rgb, ImageError> {
    DECODER.with_borrow_mut(|decoder| decoder.decode(bytes))
}

/// Encodes an image as a baseline JPEG with 4:2:0 subsampling. `quality` is between 1 and 100.
pub fn encode_jpeg(image: &Rgb, quality: i32) -> Result<Vec<u8>, ImageError> {
    let encode = || {
        let mut compressor = turbojpeg::Compressor::new()?;
        compressor.set_quality(quality)?;
        compressor.set_subsamp(turbojpeg::Subsamp::Sub2x2)?;
        // Optimized Huffman tables: a few percent smaller, and faster to read.
        compressor.set_optimize(true)?;
        compressor.compress_to_vec(turbojpeg::Image {
            pixels: image.pixels.as_slice(),
            width: image.width,
            pitch: 3 * image.width,
            height: image.height,
            format: turbojpeg::PixelFormat::RGB,
        })
    };
    encode().map_err(|error| ImageError::Encode(error.to_string()))
}

/// Resizes an image so that its shorter side is `short` pixels; returns `None` if that side is not longer.
pub fn shrink(image: &Rgb, short: usize) -> Option<Rgb> {
    if image.width.min(image.height) <= short {
        return None;
    }
    let (width, height) = crop::resized(image.width, image.height, short);
    let mut pixels = vec![0; width * height * 3];
    let source = TypedImageRef::<U8x3>::from_buffer(image.width as u32, image.height as u32, &image.pixels);
    resize(&mut Resizer::new(), &source.expect("three bytes a pixel"), None, (width, height), &mut pixels);
    Some(Rgb { width, height, pixels })
}

thread_local! {
    static DECODER: RefCell<Decoder> = RefCell::new(Decoder::new());
}

/// The maximum number of pixels of an image, which is the limit of PIL.
const MOST_PIXELS: usize = 178_956_970;
/// The maximum number of pixels per compressed byte of a JPEG: about 4,096 (blocks of 64 pixels at one bit each, colors
/// at a quarter of the resolution). It is checked only if a wrong header would cost much memory.
const MOST_PIXELS_A_BYTE: usize = 4_096;
/// The maximum number of bits per compressed byte of a PNG: zlib makes at most 1,032 bytes of one.
const MOST_BITS_A_BYTE: usize = 8 * 1_032;
/// The number of pixels from which on the two limits above are checked.
const LOOK_AT_PIXELS_A_BYTE: usize = 16_000_000;
/// The size in bytes above which a buffer is freed after each image.
const KEPT_BYTES: usize = 64 << 20;

/// A decoder with buffers that are reused; each thread needs one.
pub struct Decoder {
    jpeg: Jpeg,
    resizer: Resizer,
    /// The pixels of the latest image: at least height × width × 4 bytes. The fourth byte is meaningless; it makes
    /// resizing a third faster.
    pixels: Vec<u8>,
    /// The latest resized square, 4 bytes per pixel as well.
    square: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

impl Decoder {
    /// Creates a decoder.
    pub fn new() -> Decoder {
        Decoder { jpeg: Jpeg::new(), resizer: Resizer::new(), pixels: vec![], square: vec![] }
    }

    /// Returns width and height in pixels, from the header alone.
    pub fn size(&mut self, bytes: &[u8]) -> Result<(usize, usize), ImageError> {
        let header = self.header(bytes)?;
        Ok((header.width, header.height))
    }

    /// Returns width and height of a file that is not cut off, without decoding it.
    pub fn probe(&mut self, bytes: &[u8]) -> Result<(usize, usize), ImageError> {
        let header = self.header(bytes)?;
        let whole = match header.coding {
            Coding::Jpeg { .. } => has_end(bytes),
            Coding::Png { .. } => png_has_end(bytes),
        };
        if whole { Ok((header.width, header.height)) } else { Err(ImageError::Truncated { end: bytes.len() }) }
    }

    /// Decodes the whole image.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Rgb, ImageError> {
        let header = self.header(bytes)?;
        let (width, height) = (header.width, header.height);
        self.load(bytes, &header, Region::whole(width, height))?;
        let mut pixels = vec![0; width * height * 3];
        drop_fourth(&self.pixels, &mut pixels);
        self.release();
        Ok(Rgb { width, height, pixels })
    }

    /// Decodes the region that `choose` returns for a (width, height), resized to side × side pixels and mirrored if
    /// `flip` is true: crop, Resize and horizontal flip of torchvision. Decodes only the rows and columns that the
    /// region needs. `into` has side × side × 3 bytes, interleaved.
    pub fn decode_region(
        &mut self,
        bytes: &[u8],
        choose: impl FnOnce(usize, usize) -> Region,
        side: usize,
        flip: bool,
        into: &mut [u8],
    ) -> Result<(), ImageError> {
        self.prepare_region(bytes, choose, side)?;
        self.write_square(flip, into);
        Ok(())
    }

    /// Decodes the central side × side pixels of the image resized to a shorter side of `short` (at least `side`):
    /// Resize and CenterCrop of torchvision. Decodes only what these pixels need. `into` has side × side × 3 bytes,
    /// interleaved.
    pub fn decode_center(
        &mut self,
        bytes: &[u8],
        short: usize,
        side: usize,
        into: &mut [u8],
    ) -> Result<(), ImageError> {
        self.prepare_center(bytes, short, side)?;
        self.write_square(false, into);
        Ok(())
    }

    /// Prepares a square as [`Decoder::decode_region`] does; [`Decoder::write_square`] copies it.
    pub fn prepare_region(
        &mut self,
        bytes: &[u8],
        choose: impl FnOnce(usize, usize) -> Region,
        side: usize,
    ) -> Result<(), ImageError> {
        let header = self.header(bytes)?;
        let region = choose(header.width, header.height);
        let loaded = self.load(bytes, &header, region)?;
        let within = |offset: usize, origin: usize| (offset - origin) as u32;
        let source = view(&self.pixels, loaded);
        let cropped = TypedCroppedImage::from_ref(
            &source,
            within(region.left, loaded.left),
            within(region.top, loaded.top),
            region.width as u32,
            region.height as u32,
        )
        .expect("what is loaded holds the region");
        self.square.resize(side * side * 4, 0);
        resize(&mut self.resizer, &cropped, None, (side, side), &mut self.square);
        self.release();
        Ok(())
    }

    /// Prepares a square as [`Decoder::decode_center`] does; [`Decoder::write_square`] copies it.
    pub fn prepare_center(&mut self, bytes: &[u8], short: usize, side: usize) -> Result<(), ImageError> {
        let header = self.header(bytes)?;
        let (width, height) = crop::resized(header.width, header.height, short);
        let kept = crop::center(width, height, side);
        let (left, right, column) = support(kept.left, side, header.width, width);
        let (top, bottom, row) = support(kept.top, side, header.height, height);
        let needed = Region { left, top, width: right - left, height: bottom - top };
        let loaded = self.load(bytes, &header, needed)?;
        // The extent of the central pixels in columns and rows of the loaded region. Their filter reaches beyond it.
        let extent = |from: usize, step: f64, origin: usize, length: usize| {
            let begin = from as f64 * step - origin as f64;
            (begin, (side as f64 * step).min(length as f64 - begin))
        };
        let (x, covered_width) = extent(kept.left, column, loaded.left, loaded.width);
        let (y, covered_height) = extent(kept.top, row, loaded.top, loaded.height);
        let covered = Some((x, y, covered_width, covered_height));
        self.square.resize(side * side * 4, 0);
        resize(&mut self.resizer, &view(&self.pixels, loaded), covered, (side, side), &mut self.square);
        self.release();
        Ok(())
    }

    /// Writes the square that was prepared last, mirrored if `flip` is true, into side × side × 3 bytes.
    pub fn write_square(&self, flip: bool, into: &mut [u8]) {
        assert_eq!(into.len() / 3, self.square.len() / 4);
        if !flip {
            return drop_fourth(&self.square, into);
        }
        let side = (into.len() / 3).isqrt();
        let (pixels, _) = self.square.as_chunks::<4>();
        let (into, _) = into.as_chunks_mut::<3>();
        for (row, into) in pixels.chunks_exact(side).zip(into.chunks_exact_mut(side)) {
            for (into, [red, green, blue, _]) in into.iter_mut().zip(row.iter().rev()) {
                *into = [*red, *green, *blue];
            }
        }
    }

    fn header(&mut self, bytes: &[u8]) -> Result<Header, ImageError> {
        let header = match bytes {
            [] => return Err(ImageError::Empty),
            [0xff, 0xd8, ..] => self.jpeg.header(bytes)?,
            [0x89, b'P', b'N', b'G', ..] => png_header(bytes)?,
            _ => {
                let begins: Vec<String> = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
                return Err(ImageError::Unknown { begins: begins.join(" ") });
            }
        };
        let (width, height) = (header.width, header.height);
        // Both sides fit in 32 bits.
        let pixels = width.saturating_mul(height);
        if pixels > MOST_PIXELS {
            let limit = format!("more than the {MOST_PIXELS} that are accepted");
            return Err(ImageError::TooLarge { width, height, limit });
        }
        let possible = match header.coding {
            Coding::Jpeg { .. } => bytes.len().saturating_mul(MOST_PIXELS_A_BYTE),
            Coding::Png { bits } => bytes.len().saturating_mul(MOST_BITS_A_BYTE) / bits,
        };
        if pixels > LOOK_AT_PIXELS_A_BYTE && pixels > possible {
            let limit = format!("which its {} bytes cannot hold", bytes.len());
            return Err(ImageError::TooLarge { width, height, limit });
        }
        Ok(header)
    }

    /// Decodes at least a region of the image into `pixels`, four bytes each; returns the region that was decoded.
    fn load(&mut self, bytes: &[u8], header: &Header, region: Region) -> Result<Region, ImageError> {
        match header.coding {
            Coding::Png { .. } => {
                decode_png(bytes, &mut self.pixels)?;
                Ok(Region::whole(header.width, header.height))
            }
            Coding::Jpeg { cmyk, block } => {
                if !has_end(bytes) {
                    return Err(ImageError::Truncated { end: bytes.len() });
                }
                let region = match block {
                    Some(block) if !cmyk => with_margins(region, header.width, block),
                    _ => Region::whole(header.width, header.height),
                };
                self.jpeg.decode(bytes, header, region, cmyk, &mut self.pixels)?;
                Ok(region)
            }
        }
    }

    fn release(&mut self) {
        if self.pixels.capacity() > KEPT_BYTES {
            self.pixels = vec![];
        }
    }
}

struct Header {
    width: usize,
    height: usize,
    coding: Coding,
}

enum Coding {
    Png {
        /// The number of bits per pixel in the file.
        bits: usize,
    },
    Jpeg {
        cmyk: bool,
        /// The width of a block: columns are decoded from a multiple of it. `None` if only the whole image can be
        /// decoded.
        block: Option<usize>,
    },
}

// --- resizing ---------------------------------------------------------------------------------------------------

/// Returns the decoded pixels of a region as an image.
fn view(pixels: &[u8], region: Region) -> TypedImageRef<'_, U8x4> {
    let bytes = &pixels[..region.width * region.height * 4];
    TypedImageRef::from_buffer(region.width as u32, region.height as u32, bytes).expect("four bytes a pixel")
}

/// Copies pixels without their fourth bytes.
fn drop_fourth(pixels: &[u8], into: &mut [u8]) {
    let (pixels, _) = pixels.as_chunks::<4>();
    let (into, _) = into.as_chunks_mut::<3>();
    for (into, [red, green, blue, _]) in into.iter_mut().zip(pixels) {
        *into = [*red, *green, *blue];
    }
}

/// Resizes an image with a bilinear filter and antialiasing. `covered` (left, top, width, height) is the part of the
/// source that the result shows; pixels outside contribute if the filter reaches them, as if all of the source had been
/// resized.
fn resize<P: PixelTrait>(
    resizer: &mut Resizer,
    source: &impl ImageView<Pixel = P>,
    covered: Option<(f64, f64, f64, f64)>,
    (width, height): (usize, usize),
    into: &mut [u8],
) {
    let mut options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
    if let Some((left, top, width, height)) = covered {
        options = options.crop(left, top, width, height);
    }
    let mut result = TypedImage::<P>::from_buffer(width as u32, height as u32, into).expect("whole pixels");
    resizer.resize_typed(source, &mut result, &options).expect("the covered part lies in the source");
}

/// Returns the range of source pixels on which the pixels `from..from + count` of the result depend, and the step
/// between pixels, for a side of `length` pixels that is resized to `resized`.
fn support(from: usize, count: usize, length: usize, resized: usize) -> (usize, usize, f64) {
    let step = length as f64 / resized as f64;
    // The triangle filter reaches one step to both sides of the center of a pixel; add one pixel for rounding.
    let reach = step.max(1.0) + 1.0;
    let begin = (from as f64 * step - reach).floor().max(0.0) as usize;
    let end = (((from + count) as f64 * step + reach).ceil() as usize).min(length);
    (begin, end, step)
}

// --- JPEG -------------------------------------------------------------------------------------------------------

/// The decompressor of libjpeg-turbo, called directly: the wrapper of the crate cannot decode a part of an image, and
/// treats warnings as errors.
struct Jpeg {
    handle: NonNull<std::ffi::c_void>,
}

// SAFETY: the handle owns everything it points to, and is used by one thread at a time.
unsafe impl Send for Jpeg {}

impl Jpeg {
    fn new() -> Jpeg {
        // SAFETY: the argument is valid.
        let handle = unsafe { raw::tj3Init(raw::TJINIT_TJINIT_DECOMPRESS as c_int) };
        Jpeg { handle: NonNull::new(handle.cast()).expect("memory for a decompressor") }
    }

    fn header(&mut self, bytes: &[u8]) -> Result<Header, ImageError> {
        // Without this check, libjpeg could read tables only and keep the size of the previous image.
        if scans(bytes).is_none() {
            return Err(ImageError::Truncated { end: bytes.len() });
        }
        // SAFETY: the pointer and the length are those of a slice.
        let status = unsafe { raw::tj3DecompressHeader(self.raw(), bytes.as_ptr(), bytes.len() as raw::size_t) };
        self.accept(status, bytes)?;
        let colors = self.get(raw::TJPARAM_TJPARAM_COLORSPACE) as raw::TJCS;
        let sampling = self.get(raw::TJPARAM_TJPARAM_SUBSAMP);
        let lossless = self.get(raw::TJPARAM_TJPARAM_LOSSLESS) != 0;
        Ok(Header {
            width: self.get(raw::TJPARAM_TJPARAM_JPEGWIDTH) as usize,
            height: self.get(raw::TJPARAM_TJPARAM_JPEGHEIGHT) as usize,
            coding: Coding::Jpeg {
                cmyk: matches!(colors, raw::TJCS_TJCS_CMYK | raw::TJCS_TJCS_YCCK),
                block: BLOCK_WIDTHS.get(sampling as usize).copied().filter(|_| !lossless),
            },
        })
    }

    /// Decodes a region of the image whose header was just read into `pixels`, as RGB and a fourth byte.
    fn decode(
        &mut self,
        bytes: &[u8],
        header: &Header,
        region: Region,
        cmyk: bool,
        pixels: &mut Vec<u8>,
    ) -> Result<(), ImageError> {
        let format = if cmyk { raw::TJPF_TJPF_CMYK } else { raw::TJPF_TJPF_RGBX };
        let whole = region == Region::whole(header.width, header.height);
        let cropping = match region {
            _ if whole => raw::tjregion { x: 0, y: 0, w: 0, h: 0 },
            Region { left, top, width, height } => {
                raw::tjregion { x: left as c_int, y: top as c_int, w: width as c_int, h: height as c_int }
            }
        };
        pixels.resize(region.width * region.height * 4, 0);
        let pitch = (region.width * 4) as c_int;
        // SAFETY: the handle is live.
        let status = unsafe { raw::tj3SetCroppingRegion(self.raw(), cropping) };
        self.accept(status, bytes)?;
        // SAFETY: the bytes are those whose header gave the region's bounds; `pixels` has room for all of the region.
        let status = unsafe {
            raw::tj3Decompress8(
                self.raw(),
                bytes.as_ptr(),
                bytes.len() as raw::size_t,
                pixels.as_mut_ptr(),
                pitch,
                format,
            )
        };
        self.accept(status, bytes)?;
        if cmyk {
            cmyk_to_rgb(pixels);
        }
        Ok(())
    }

    /// Fails if the latest call failed, rather than issued a warning that PIL accepts too.
    fn accept(&mut self, status: c_int, bytes: &[u8]) -> Result<(), ImageError> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: the handle is live, and so is its message until the next call.
        let (message, code) = unsafe {
            let message = CStr::from_ptr(raw::tj3GetErrorStr(self.raw())).to_string_lossy().into_owned();
            (message, raw::tj3GetErrorCode(self.raw()))
        };
        if message.starts_with(ENDED) {
            return Err(ImageError::Truncated { end: bytes.len() });
        }
        // The code is that of a warning even if an error followed; the message is then that of the error.
        let warned = code == raw::TJERR_TJERR_WARNING as c_int;
        if warned && WARNINGS.iter().any(|warning| message.starts_with(warning)) {
            return Ok(());
        }
        // After an error in the header, the handle would continue in the middle of that file.
        *self = Jpeg::new();
        Err(ImageError::Jpeg(message))
    }

    fn get(&mut self, parameter: raw::TJPARAM) -> c_int {
        // SAFETY: the handle is live.
        unsafe { raw::tj3Get(self.raw(), parameter as c_int) }
    }

    fn raw(&mut self) -> raw::tjhandle {
        self.handle.as_ptr().cast()
    }
}

impl Drop for Jpeg {
    fn drop(&mut self) {
        // SAFETY: there is no other reference to the handle.
        unsafe { raw::tj3Destroy(self.raw()) }
    }
}

/// The prefixes of the warnings of libjpeg that are accepted.
const WARNINGS: [&str; 6] = [
    "Corrupt JPEG data",
    "Inconsistent progression sequence",
    "Invalid SOS parameters for sequential JPEG",
    "Unknown Adobe color transform",
    "Warning: unknown JFIF revision",
    "Application transferred too many",
];
const ENDED: &str = "Premature end of JPEG file";

/// The width of the smallest decodable unit, by subsampling in the order of TurboJPEG: 4:4:4, 4:2:2, 4:2:0, gray,
/// 4:4:0, 4:1:1, 4:4:1.
const BLOCK_WIDTHS: [usize; 7] = [8, 16, 16, 8, 8, 32, 8];

/// Returns the region to decode so that the pixels of `region` equal those of the whole image: from a multiple of the
/// block width and, because colors are interpolated between neighbours, with a margin on both sides.
fn with_margins(region: Region, width: usize, block: usize) -> Region {
    const MARGIN: usize = 4;
    let left = region.left.saturating_sub(MARGIN) / block * block;
    let right = (region.right() + MARGIN).min(width);
    Region { left, width: right - left, ..region }
}

/// Returns true if the end marker of a JPEG follows its first scan. A truncated file has none, wherever a crop is.
fn has_end(bytes: &[u8]) -> bool {
    scans(bytes).is_some_and(|start| bytes[start..].windows(2).rev().any(|pair| pair == [0xff, 0xd9]))
}

/// Returns the offset of the data of the first scan of a JPEG; returns `None` if the file or the image ends before it.
fn scans(bytes: &[u8]) -> Option<usize> {
    const SCAN: u8 = 0xda;
    const END: u8 = 0xd9;
    let mut at = 2;
    loop {
        // Find the next marker: any bytes, then 0xff at least once, then a byte that is neither 0xff nor 0.
        at += bytes.get(at..)?.iter().position(|byte| *byte == 0xff)?;
        at += bytes[at..].iter().position(|byte| *byte != 0xff)?;
        match bytes[at] {
            END => return None,
            // These markers have no content.
            0x00 | 0x01 | 0xd0..=0xd8 => at += 1,
            marker => {
                let length = bytes.get(at + 1..at + 3)?;
                at += 1 + usize::from(u16::from_be_bytes([length[0], length[1]]));
                if marker == SCAN {
                    return (at < bytes.len()).then_some(at);
                }
            }
        }
    }
}

/// Converts CMYK to RGB in place. Like PIL, this assumes that inks are inverted, as Adobe programs store them, and
/// mixes the inks.
fn cmyk_to_rgb(pixels: &mut [u8]) {
    let (pixels, _) = pixels.as_chunks_mut::<4>();
    for [inks @ .., black] in pixels {
        for ink in inks {
            let product = u32::from(255 - *ink) * u32::from(*black) + 128;
            let share = ((product >> 8) + product) >> 8;
            // An ink is at most 255, so that its product with black is at most black.
            *ink = *black - share as u8;
        }
    }
}

// --- PNG --------------------------------------------------------------------------------------------------------

fn png_header(bytes: &[u8]) -> Result<Header, ImageError> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    let info = decoder.read_header_info().map_err(|error| png_error(error, bytes))?;
    let coding = Coding::Png { bits: info.bits_per_pixel() };
    Ok(Header { width: info.width as usize, height: info.height as usize, coding })
}

/// Returns true if the chunks of a PNG are complete up to the one that ends the image.
fn png_has_end(bytes: &[u8]) -> bool {
    // The signature is followed by chunks: length, name, content, checksum.
    let mut rest = bytes.get(8..);
    while let Some([a, b, c, d, name @ .., _, _, _, _]) = rest.and_then(|rest| rest.first_chunk::<12>()) {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let next = rest.and_then(|rest| rest.get(12 + length..));
        if name == b"IEND" {
            return next.is_some();
        }
        rest = next;
    }
    false
}

/// Decodes a PNG to RGB and a fourth byte. Of 16-bit values the upper 8 bits are kept; transparency is dropped.
fn decode_png(bytes: &[u8], pixels: &mut Vec<u8>) -> Result<(), ImageError> {
    let failed = |error| png_error(error, bytes);
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(failed)?;
    let length = reader.output_buffer_size().ok_or_else(|| ImageError::Png("it is too large".to_string()))?;
    let mut buffer = vec![0; length];
    let frame = reader.next_frame(&mut buffer).map_err(failed)?;
    reader.finish().map_err(failed)?;
    let channels = frame.color_type.samples();
    pixels.clear();
    for pixel in buffer[..frame.buffer_size()].chunks_exact(channels) {
        match pixel {
            [gray] | [gray, _] => pixels.extend([*gray, *gray, *gray, 0]),
            _ => pixels.extend([pixel[0], pixel[1], pixel[2], 0]),
        }
    }
    Ok(())
}

fn png_error(error: png::DecodingError, bytes: &[u8]) -> ImageError {
    match error {
        png::DecodingError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            ImageError::Truncated { end: bytes.len() }
        }
        error => ImageError::Png(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image in `tests/images`, and the results of Pillow and torchvision for it; see `make.py` beside them.
    struct Fixture {
        name: &'static str,
        bytes: &'static [u8],
        whole: &'static [u8],
        region: (Region, &'static [u8]),
        center: &'static [u8],
    }

    macro_rules! fixture {
        ($name:literal, $left:literal, $top:literal, $width:literal, $height:literal) => {
            Fixture {
                name: $name,
                bytes: include_bytes!(concat!("../../tests/images/", $name, ".jpg")),
                whole: include_bytes!(concat!("../../tests/images/", $name, ".whole.png")),
                region: (
                    Region { left: $left, top: $top, width: $width, height: $height },
                    include_bytes!(concat!("../../tests/images/", $name, ".region.png")),
                ),
                center: include_bytes!(concat!("../../tests/images/", $name, ".center.png")),
            }
        };
    }

    const FIXTURES: [Fixture; 8] = [
        fixture!("color-420", 19, 5, 30, 35),
        fixture!("color-444", 3, 11, 41, 22),
        fixture!("progressive", 25, 13, 25, 27),
        fixture!("rotated-in-exif", 17, 0, 20, 40),
        fixture!("gray", 9, 2, 33, 30),
        fixture!("cmyk", 8, 8, 24, 24),
        fixture!("tiny", 1, 0, 2, 2),
        fixture!("png-inside", 5, 5, 30, 20),
    ];
    const COLOR: &[u8] = FIXTURES[0].bytes;

    /// Returns the largest difference between two images.
    fn distance(one: &[u8], other: &[u8]) -> u8 {
        assert_eq!(one.len(), other.len());
        one.iter().zip(other).map(|(one, other)| one.abs_diff(*other)).max().unwrap()
    }

    #[test]
    fn pixels_are_those_of_pillow_and_torchvision() {
        let mut decoder = Decoder::new();
        let mut pixels = vec![0; 20 * 20 * 3];
        for fixture in &FIXTURES {
            let expected = |png: &[u8]| decode(png).unwrap();
            let whole = decoder.decode(fixture.bytes).unwrap();
            assert_eq!(whole, expected(fixture.whole), "{}", fixture.name);
            assert_eq!(size(fixture.bytes), Ok((whole.width, whole.height)));

            let (region, png) = fixture.region;
            let choose = |width, height| {
                assert_eq!((width, height), (whole.width, whole.height));
                region
            };
            decoder.decode_region(fixture.bytes, choose, 20, true, &mut pixels).unwrap();
            assert!(distance(&pixels, &expected(png).pixels) <= 1, "{}", fixture.name);

            decoder.decode_center(fixture.bytes, 28, 20, &mut pixels).unwrap();
            assert!(distance(&pixels, &expected(fixture.center).pixels) <= 1, "{}", fixture.name);
        }
    }

    #[test]
    fn a_region_has_the_pixels_of_the_whole_image() {
        let mut decoder = Decoder::new();
        for fixture in &FIXTURES {
            let whole = decode(fixture.bytes).unwrap();
            let side = whole.width.min(whole.height).min(13);
            for left in 0..=whole.width - side {
                let top = left % (whole.height - side + 1);
                let mut pixels = vec![0; side * side * 3];
                let region = Region { left, top, width: side, height: side };
                decoder.decode_region(fixture.bytes, |_, _| region, side, false, &mut pixels).unwrap();
                for (y, row) in pixels.chunks_exact(side * 3).enumerate() {
                    let start = ((top + y) * whole.width + left) * 3;
                    assert_eq!(row, &whole.pixels[start..start + side * 3], "{}: {region:?}", fixture.name);
                }
            }
        }
    }

    #[test]
    fn truncated_image_is_reported_with_the_end_of_the_file() {
        for fixture in &FIXTURES {
            // Fewer than 16 bytes do not identify the format.
            for end in 16..fixture.bytes.len() - 1 {
                let error = decode(&fixture.bytes[..end]).err();
                assert_eq!(error, Some(ImageError::Truncated { end }), "{}", fixture.name);
                let error = Decoder::new().probe(&fixture.bytes[..end]).err();
                assert_eq!(error, Some(ImageError::Truncated { end }), "{}", fixture.name);
            }
            assert_eq!(Decoder::new().probe(fixture.bytes), size(fixture.bytes));
        }
        // The same holds if the crop is above the missing part.
        let cut = &COLOR[..COLOR.len() - 9];
        let top = Region { left: 0, top: 0, width: 8, height: 8 };
        let error = Decoder::new().decode_region(cut, |_, _| top, 8, false, &mut [0; 192]).unwrap_err();
        let message = format!("the image is cut off: the file ends at byte {}, before the image does", cut.len());
        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn unknown_format_is_reported_with_its_first_bytes() {
        assert_eq!(decode(b"").unwrap_err().to_string(), "the file is empty");
        let error = decode(b"GIF89a").unwrap_err().to_string();
        assert_eq!(error, "it is neither a JPEG nor a PNG image: it begins with the bytes 47 49 46 38");
        // An invalid segment of quantization tables.
        let mut bytes = COLOR.to_vec();
        let table = bytes.windows(2).position(|pair| pair == [0xff, 0xdb]).unwrap();
        bytes[table + 4] = 0x0f;
        let error = decode(&bytes).unwrap_err().to_string();
        assert!(error.starts_with("the JPEG is damaged or unsupported: Bogus DQT index 15"), "{error}");
        // The decoder can be used again after that.
        assert!(decode(COLOR).is_ok());
        let png = FIXTURES[0].whole;
        let mut bytes = png.to_vec();
        bytes[png.len() / 2] ^= 1;
        assert!(matches!(decode(&bytes), Err(ImageError::Png(_))));
    }

    #[test]
    fn absurd_sizes_are_refused_without_allocation() {
        let frame = COLOR.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        let mut bytes = COLOR.to_vec();
        for (sides, reason) in [([0xff, 0, 0xff, 0], "that are accepted"), ([0x20, 0, 0x20, 0], "bytes cannot hold")] {
            bytes[frame + 5..frame + 9].copy_from_slice(&sides);
            let error = decode(&bytes).unwrap_err();
            assert!(matches!(error, ImageError::TooLarge { .. }) && error.to_string().contains(reason), "{error}");
        }
        // The first chunk of a PNG begins with width and height, and its checksum ends at byte 33.
        let png = FIXTURES[0].whole;
        for (sides, reason) in [(0x7fff_ffff, "that are accepted"), (0x2000, "bytes cannot hold")] {
            let mut bytes = png.to_vec();
            bytes[16..20].copy_from_slice(&u32::to_be_bytes(sides));
            bytes[20..24].copy_from_slice(&u32::to_be_bytes(sides));
            let mut checksum = flate2::Crc::new();
            checksum.update(&bytes[12..29]);
            bytes[29..33].copy_from_slice(&checksum.sum().to_be_bytes());
            let error = decode(&bytes).unwrap_err();
            assert!(matches!(error, ImageError::TooLarge { .. }) && error.to_string().contains(reason), "{error}");
        }
    }

    #[test]
    fn warnings_of_libjpeg_are_accepted() {
        let whole = decode(COLOR).unwrap();
        let mut bytes = COLOR.to_vec();
        let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        bytes.splice(frame..frame, [1, 2, 3]);
        bytes.extend(b"more of something else");
        assert_eq!(decode(&bytes), Ok(whole));
    }

    #[test]
    fn damaged_bytes_never_crash() {
        for fixture in &FIXTURES {
            for at in 0..fixture.bytes.len() {
                let mut bytes = fixture.bytes.to_vec();
                bytes[at] = !bytes[at];
                if let Ok(image) = decode(&bytes) {
                    assert_eq!(image.pixels.len(), image.width * image.height * 3);
                }
            }
        }
    }

    #[test]
    fn encoded_image_decodes_to_nearly_the_same_pixels() {
        let image = decode(FIXTURES[1].bytes).unwrap();
        let bytes = encode_jpeg(&image, 95).unwrap();
        let back = decode(&bytes).unwrap();
        assert_eq!((back.width, back.height), (image.width, image.height));
        let difference: u64 =
            back.pixels.iter().zip(&image.pixels).map(|(one, other)| u64::from(one.abs_diff(*other))).sum();
        assert!(difference / image.pixels.len() as u64 <= 10, "{difference}");
        let small = shrink(&image, 20).unwrap();
        assert_eq!((small.width, small.height), (20, 25));
        assert_eq!(shrink(&small, 20), None);
    }
}
