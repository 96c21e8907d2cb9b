//! Turns image files into the elements of one input. What the steps are is decided in `preprocess`.
//!
//! Images are decoded to 8-bit RGB (alpha dropped, no EXIF rotation, as Pillow's `convert("RGB")`); grey is
//! 0.299 R + 0.587 G + 0.114 B. Resizing is separable with the kernel widened when an image shrinks, as Pillow does it;
//! single values differ from Pillow's by a level or so, since intermediate values are not rounded to 8 bits.

use std::io::BufReader;
use std::path::Path;

use image::imageops::FilterType;
use image::{DynamicImage, GrayImage, ImageReader};
use onnxq_ir::{Dim, ElementType};

use super::InputSpec;
use super::error::{DataError, ImageStep, PreprocessProblem};
use super::preprocess::{ChannelOrder, CropOrigin, Geometry, Interpolation, Layout, Preprocess, Resize};

/// The side of a built-in crop where the input fixes none.
const IMAGENET_SIDE: u32 = 224;
/// Pixels of a resized image at most, before the crop.
const MAX_PIXELS: u64 = 1 << 28;

/// The steps that lead from an image to one row of a certain input.
#[derive(Clone, Debug)]
pub(super) struct ImagePlan {
    layout: Layout,
    channels: usize,
    order: ChannelOrder,
    resize: Option<Resize>,
    crop: Option<[u32; 2]>,
    crop_origin: CropOrigin,
    filter: FilterType,
    /// Height and width as far as the input fixes them.
    fixed: [Option<u32>; 2],
    /// Height and width of the result where known.
    target: Option<[u32; 2]>,
    /// The fed value of each 8-bit value, by channel as fed.
    values: Vec<[f32; 256]>,
}

/// One image as the input takes it.
pub(super) struct Pixels {
    /// The shape without a batch.
    pub(super) shape: [usize; 3],
    /// Row-major elements.
    pub(super) elements: Vec<f32>,
}

impl ImagePlan {
    /// The plan for this input, `None` where it is no image input at all: floats with three or four axes.
    pub(super) fn new(preprocess: &Preprocess, spec: &InputSpec) -> Result<Option<Self>, DataError> {
        let image_dims = match spec.tensor_type.shape.as_deref() {
            _ if !spec.takes(ElementType::F32) => return Ok(None),
            None => [None; 3],
            Some([_, dims @ ..] | dims) if dims.len() == 3 => [0, 1, 2].map(|axis| dims[axis].known()),
            Some(_) => return Ok(None),
        };
        if image_dims.contains(&Some(0)) {
            return Ok(None);
        }
        let failed = |problem| DataError::Preprocess { name: preprocess.name.clone(), problem };
        Self::fitted(preprocess, spec, image_dims).map(Some).map_err(failed)
    }

    fn fitted(preprocess: &Preprocess, spec: &InputSpec, dims: [Option<usize>; 3]) -> Result<Self, PreprocessProblem> {
        let layout = preprocess.layout.unwrap_or_else(|| suggested_layout(dims));
        let (channel_dim, sides) = match layout {
            Layout::Nchw => (dims[0], [dims[1], dims[2]]),
            Layout::Nhwc => (dims[2], [dims[0], dims[1]]),
        };
        let channels = channel_dim.unwrap_or(3);
        let wrong_channels = |what: String| PreprocessProblem::Channels {
            what,
            input: spec.name.clone(),
            wanted: spec.tensor_type.clone(),
            channels,
        };
        if channels != 1 && channels != 3 {
            return Err(wrong_channels("images give 1 or 3 channels, see `layout`,".to_owned()));
        }
        let mean = per_channel(preprocess, &preprocess.mean, channels);
        let std = per_channel(preprocess, &preprocess.std, channels);
        let (Some(mean), Some(std)) = (mean, std) else {
            let (mean, std) = (preprocess.mean.len(), preprocess.std.len());
            return Err(wrong_channels(format!("gives {mean} means and {std} standard deviations")));
        };
        let fixed = sides.map(|side| side.map(|side| u32::try_from(side).unwrap_or(u32::MAX)));
        let (resize, crop) = match preprocess.geometry {
            Geometry::Steps { resize, crop } => (resize, crop),
            Geometry::Imagenet => imagenet_steps(fixed),
        };
        let result = match (crop, resize) {
            (Some(size), _) | (None, Some(Resize::Exact(size))) => Some(size),
            _ => None,
        };
        if let Some(found) = result.filter(|&size| !fits(fixed, size)) {
            let (input, wanted) = (spec.name.clone(), spec.tensor_type.clone());
            return Err(PreprocessProblem::Size { found, input, wanted });
        }
        Ok(Self {
            layout,
            channels,
            order: preprocess.channels,
            resize,
            crop,
            crop_origin: preprocess.crop_origin,
            filter: filter(preprocess.interpolation),
            fixed,
            target: result.or(fixed[0].zip(fixed[1]).map(|(height, width)| [height, width])),
            values: mean.iter().zip(std).map(|(mean, std)| value_table(preprocess.scale, *mean, std)).collect(),
        })
    }

    /// Decodes and prepares one image.
    pub(super) fn pixels(&self, path: &Path) -> Result<Pixels, DataError> {
        let image = decode(path)?;
        let image = if self.channels == 1 { DynamicImage::ImageLuma8(grey(image)) } else { image };
        let image = if self.target == Some(size(&image)) { image } else { self.resized(path, image)? };
        if !fits(self.fixed, size(&image)) {
            let found = size(&image);
            let wanted = [self.fixed[0].unwrap_or(found[0]), self.fixed[1].unwrap_or(found[1])];
            return Err(DataError::ImageSize { path: path.to_owned(), found, wanted, when: ImageStep::AtEnd });
        }
        Ok(self.arranged(&image))
    }

    /// Height and width of an image of this shape.
    pub(super) fn sides(&self, shape: [usize; 3]) -> [u32; 2] {
        let sides = if self.layout == Layout::Nchw { [shape[1], shape[2]] } else { [shape[0], shape[1]] };
        sides.map(|side| side as u32)
    }

    fn resized(&self, path: &Path, image: DynamicImage) -> Result<DynamicImage, DataError> {
        let [height, width] = size(&image);
        let goal = match self.resize {
            None => [height, width],
            Some(Resize::Exact(goal)) => goal,
            Some(Resize::Shorter(side)) => shorter_side(side, [height, width]).ok_or_else(|| DataError::Image {
                path: path.to_owned(),
                problem: format!("{height}x{width} can't be resized to a shorter side of {side}, it is too long"),
            })?,
        };
        let image = if goal == [height, width] { image } else { image.resize_exact(goal[1], goal[0], self.filter) };
        let Some(wanted) = self.crop else { return Ok(image) };
        if goal[0] < wanted[0] || goal[1] < wanted[1] {
            return Err(DataError::ImageSize {
                path: path.to_owned(),
                found: goal,
                wanted,
                when: ImageStep::BeforeCrop,
            });
        }
        let [top, left] = [0, 1].map(|axis| margin(goal[axis] - wanted[axis], self.crop_origin));
        Ok(image.crop_imm(left, top, wanted[1], wanted[0]))
    }

    fn arranged(&self, image: &DynamicImage) -> Pixels {
        let [height, width] = size(image).map(|side| side as usize);
        let (bytes, c) = (image.as_bytes(), self.channels);
        let source = |fed: usize| if self.order == ChannelOrder::Bgr { c - 1 - fed } else { fed };
        let fed_channel = |fed: usize| {
            let table = &self.values[fed];
            bytes.iter().skip(source(fed)).step_by(c).map(move |&byte| table[usize::from(byte)])
        };
        match self.layout {
            Layout::Nchw => Pixels { shape: [c, height, width], elements: (0..c).flat_map(fed_channel).collect() },
            Layout::Nhwc => {
                let mut elements = vec![0.0; bytes.len()];
                for fed in 0..c {
                    elements.iter_mut().skip(fed).step_by(c).zip(fed_channel(fed)).for_each(|(to, x)| *to = x);
                }
                Pixels { shape: [height, width, c], elements }
            }
        }
    }
}

fn suggested_layout(dims: [Option<usize>; 3]) -> Layout {
    let is_channels = |dim: Option<usize>| matches!(dim, Some(1 | 3));
    if !is_channels(dims[0]) && is_channels(dims[2]) { Layout::Nhwc } else { Layout::Nchw }
}

/// One number for each channel; the three of `imagenet` are averaged for a grey input.
fn per_channel(preprocess: &Preprocess, numbers: &[f64], channels: usize) -> Option<Vec<f64>> {
    match numbers {
        [number] => Some(vec![*number; channels]),
        numbers if numbers.len() == channels => Some(numbers.to_vec()),
        numbers if preprocess.geometry == Geometry::Imagenet => {
            Some(vec![numbers.iter().sum::<f64>() / numbers.len() as f64])
        }
        _ => None,
    }
}

/// Resize and crop of the built-in preprocessing for an input of this size.
fn imagenet_steps(fixed: [Option<u32>; 2]) -> (Option<Resize>, Option<[u32; 2]>) {
    let crop = fixed.map(|side| side.unwrap_or(IMAGENET_SIDE));
    let longer = u64::from(crop[0].max(crop[1]));
    let side = u32::try_from((longer * 256 + 112) / 224).unwrap_or(u32::MAX);
    (Some(Resize::Shorter(side)), Some(crop))
}

fn fits(fixed: [Option<u32>; 2], size: [u32; 2]) -> bool {
    fixed.iter().zip(size).all(|(fixed, side)| fixed.is_none_or(|fixed| fixed == side))
}

/// Height and width where the shorter side gets this length and the other one is rounded down, as torchvision does.
fn shorter_side(side: u32, [height, width]: [u32; 2]) -> Option<[u32; 2]> {
    let (short, long) = (u64::from(height.min(width)), u64::from(height.max(width)));
    let other = u64::from(side) * long / short.max(1);
    if other.checked_mul(u64::from(side))? > MAX_PIXELS {
        return None;
    }
    let other = u32::try_from(other).ok()?;
    Some(if height <= width { [side, other] } else { [other, side] })
}

fn margin(spare: u32, origin: CropOrigin) -> u32 {
    match origin {
        CropOrigin::Floor => spare / 2,
        // Halves go to the even neighbour.
        CropOrigin::HalfToEven => spare / 2 + u32::from(spare % 4 == 3),
    }
}

fn filter(interpolation: Interpolation) -> FilterType {
    match interpolation {
        Interpolation::Nearest => FilterType::Nearest,
        Interpolation::Bilinear => FilterType::Triangle,
        Interpolation::Bicubic => FilterType::CatmullRom,
        Interpolation::Lanczos => FilterType::Lanczos3,
    }
}

fn value_table(scale: f64, mean: f64, std: f64) -> [f32; 256] {
    std::array::from_fn(|byte| ((byte as f64 * scale - mean) / std) as f32)
}

fn decode(path: &Path) -> Result<DynamicImage, DataError> {
    let io = |problem| DataError::Io { path: path.to_owned(), problem };
    let file = std::fs::File::open(path).map_err(io)?;
    let reader = ImageReader::new(BufReader::new(file)).with_guessed_format().map_err(io)?;
    let image =
        reader.decode().map_err(|problem| DataError::Image { path: path.to_owned(), problem: problem.to_string() })?;
    Ok(DynamicImage::ImageRgb8(image.into_rgb8()))
}

fn grey(image: DynamicImage) -> GrayImage {
    let rgb = image.into_rgb8();
    let (width, height) = rgb.dimensions();
    // The weights of BT.601 in 16 bits; they add up to 65536, so grey stays grey.
    let luma =
        |[r, g, b]: [u8; 3]| ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8;
    let mut grey = GrayImage::new(width, height);
    grey.pixels_mut().zip(rgb.pixels()).for_each(|(to, from)| to.0 = [luma(from.0)]);
    grey
}

fn size(image: &DynamicImage) -> [u32; 2] {
    [image.height(), image.width()]
}

/// The fixed batch of an image input, `None` for one without a batch.
pub(super) fn image_batch(spec: &InputSpec) -> Option<usize> {
    match spec.tensor_type.shape.as_deref() {
        Some(dims) if dims.len() == 3 => None,
        Some(dims) => Some(dims.first().and_then(Dim::known).unwrap_or(1)),
        None => Some(1),
    }
}
