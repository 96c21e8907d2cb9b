//! How images become a model's input, as the user says it: a built-in name, a TOML file, or a Hugging Face
//! `preprocessor_config.json`. Decodes no image and knows no model.

use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::error::{DataError, PreprocessProblem};
use super::preprocessor_config;

/// Bytes of a preprocessing file at most.
const BUDGET: u64 = 1 << 20;
/// Pixels of a side at most.
const MAX_SIDE: u32 = 1 << 14;

/// The steps from an image to a model's input: resize, centre crop, rescale, normalize, arrange.
///
/// An image that has the input's size already is neither resized nor cropped.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocess {
    pub(super) name: String,
    pub(super) geometry: Geometry,
    pub(super) interpolation: Interpolation,
    pub(super) crop_origin: CropOrigin,
    /// Factor on the 8-bit values.
    pub(super) scale: f64,
    /// Subtracted after scaling: one number, or one for each channel in the order they are fed.
    pub(super) mean: Vec<f64>,
    /// Divides after that, likewise.
    pub(super) std: Vec<f64>,
    /// `None`: as the input's dimensions suggest.
    pub(super) layout: Option<Layout>,
    pub(super) channels: ChannelOrder,
}

/// What happens to an image's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Geometry {
    /// Crop to the input's fixed size, 224 where it has none, after a resize of the shorter side to 256/224 of that.
    Imagenet,
    /// These steps.
    Steps {
        /// First.
        resize: Option<Resize>,
        /// Then the centre, height and width.
        crop: Option<[u32; 2]>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resize {
    /// The shorter side gets this length, the other one in proportion.
    Shorter(u32),
    /// Height and width.
    Exact([u32; 2]),
}

/// Kernels, all widened when an image shrinks, as Pillow does it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Interpolation {
    Nearest,
    #[default]
    Bilinear,
    Bicubic,
    Lanczos,
}

/// Where an odd pixel goes in a centre crop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CropOrigin {
    /// Half of the margin, rounded to even: torchvision.
    HalfToEven,
    /// Half of the margin, rounded down: Hugging Face.
    Floor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Layout {
    Nchw,
    Nhwc,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ChannelOrder {
    #[default]
    Rgb,
    Bgr,
}

impl Preprocess {
    /// The preprocessing of this built-in name (`imagenet`), or of this .toml or .json file.
    ///
    /// TOML keys, all optional: `resize` (shorter side, or [height, width]), `crop` (size, or [height, width]),
    /// `interpolation` (nearest, bilinear, bicubic, lanczos), `scale` (1/255), `mean`, `std` (one number, or one for
    /// each channel), `layout` (nchw, nhwc; else as the input's dimensions suggest), `channels` (rgb, bgr).
    pub fn load(name_or_path: &str) -> Result<Self, DataError> {
        if name_or_path == "imagenet" {
            return Ok(Self::imagenet());
        }
        let failed = |problem| DataError::Preprocess { name: name_or_path.to_owned(), problem };
        let path = Path::new(name_or_path);
        let parse = match path.extension().and_then(|end| end.to_str()) {
            Some("toml") => Self::from_toml,
            Some("json") => preprocessor_config::parse,
            _ => return Err(failed(PreprocessProblem::Unknown("no such name or ending".to_owned()))),
        };
        let text = read(path).map_err(|problem| failed(PreprocessProblem::Unknown(problem.to_string())))?;
        parse(name_or_path, &text).and_then(Self::checked).map_err(failed)
    }

    /// ImageNet evaluation as torchvision and timm do it: shorter side 256, bicubic, centre 224, RGB, normalized. Size
    /// and crop follow an input of another fixed size.
    pub fn imagenet() -> Self {
        Self {
            name: "imagenet".to_owned(),
            geometry: Geometry::Imagenet,
            interpolation: Interpolation::Bicubic,
            crop_origin: CropOrigin::HalfToEven,
            scale: 1.0 / 255.0,
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
            layout: None,
            channels: ChannelOrder::Rgb,
        }
    }

    fn from_toml(name: &str, text: &str) -> Result<Self, PreprocessProblem> {
        let file: TomlFile = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            PreprocessProblem::Syntax(format!("line {line}: {}", error.message()))
        })?;
        let resize = file.resize.map(|resize| match resize {
            Size::Side(side) => Resize::Shorter(side),
            Size::Sides(sides) => Resize::Exact(sides),
        });
        let crop = file.crop.map(|crop| match crop {
            Size::Side(side) => [side, side],
            Size::Sides(sides) => sides,
        });
        Ok(Self {
            name: name.to_owned(),
            geometry: Geometry::Steps { resize, crop },
            interpolation: file.interpolation,
            crop_origin: CropOrigin::HalfToEven,
            scale: file.scale.unwrap_or(1.0 / 255.0),
            mean: file.mean.map_or(vec![0.0], PerChannel::numbers),
            std: file.std.map_or(vec![1.0], PerChannel::numbers),
            layout: file.layout,
            channels: file.channels,
        })
    }

    /// The same, if its numbers make sense.
    fn checked(self) -> Result<Self, PreprocessProblem> {
        let value = |key, what: &str| Err(PreprocessProblem::Value { key, what: what.to_owned() });
        let side_ok = |sides: &[u32]| sides.iter().all(|side| (1..=MAX_SIDE).contains(side));
        if let Geometry::Steps { resize, crop } = self.geometry {
            let resize_ok = match resize {
                Some(Resize::Shorter(side)) => side_ok(&[side]),
                Some(Resize::Exact(sides)) => side_ok(&sides),
                None => true,
            };
            if !resize_ok {
                return value("resize", "sides are 1 to 16384 pixels");
            }
            if crop.is_some_and(|sides| !side_ok(&sides)) {
                return value("crop", "sides are 1 to 16384 pixels");
            }
        }
        if !self.scale.is_finite() || self.scale == 0.0 {
            return value("scale", "must be a finite number other than 0");
        }
        if self.mean.is_empty() || !self.mean.iter().all(|x| x.is_finite()) {
            return value("mean", "must be one finite number, or one for each channel");
        }
        // Divisors so small make float32 infinite.
        if self.std.is_empty() || !self.std.iter().all(|x| x.is_finite() && *x > 1e-30) {
            return value("std", "must be one positive number, or one for each channel");
        }
        Ok(self)
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(BUDGET).read_to_string(&mut text)?;
    Ok(text)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TomlFile {
    resize: Option<Size>,
    crop: Option<Size>,
    mean: Option<PerChannel>,
    std: Option<PerChannel>,
    layout: Option<Layout>,
    #[serde(default)]
    interpolation: Interpolation,
    scale: Option<f64>,
    #[serde(default)]
    channels: ChannelOrder,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number of pixels or [height, width]")]
enum Size {
    Side(u32),
    Sides([u32; 2]),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number or a list of one for each channel")]
enum PerChannel {
    All(f64),
    Each(Vec<f64>),
}

impl PerChannel {
    fn numbers(self) -> Vec<f64> {
        match self {
            Self::All(number) => vec![number],
            Self::Each(numbers) => numbers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample_files::write;
    use super::*;

    fn load(name: &str, text: &str) -> Result<Preprocess, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = write(&dir, name, text.as_bytes());
        Preprocess::load(path.to_str().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_full_toml_file() {
        let text = "resize = 256\ncrop = [192, 160]\nmean = [1, 2.5, 3]\nstd = 2\nlayout = \"nhwc\"\n\
                    interpolation = \"lanczos\"\nscale = 1\nchannels = \"bgr\"\n";
        let loaded = load("p.toml", text).unwrap();
        let geometry = Geometry::Steps { resize: Some(Resize::Shorter(256)), crop: Some([192, 160]) };
        assert_eq!(loaded.geometry, geometry);
        assert_eq!((loaded.mean, loaded.std, loaded.scale), (vec![1.0, 2.5, 3.0], vec![2.0], 1.0));
        assert_eq!((loaded.layout, loaded.channels), (Some(Layout::Nhwc), ChannelOrder::Bgr));
        assert_eq!(loaded.interpolation, Interpolation::Lanczos);
        let defaults = load("p.toml", "").unwrap();
        assert_eq!((defaults.scale, defaults.interpolation), (1.0 / 255.0, Interpolation::Bilinear));
    }

    #[test]
    fn wrong_files_say_what_is_known() {
        let message = load("p.toml", "crop = 3\nresise = 256\n").unwrap_err();
        assert!(
            message.contains("line 2") && message.contains("`resise`") && message.contains("`resize`, `crop`"),
            "{message}"
        );
        assert!(load("p.toml", "layout = \"hwc\"").unwrap_err().contains("`nchw` or `nhwc`"));
        assert!(load("p.toml", "resize = \"big\"").unwrap_err().contains("[height, width]"));
        assert!(load("p.toml", "crop = 0").unwrap_err().contains("`crop`"));
        assert!(load("p.toml", "std = [1, 0, 1]").unwrap_err().contains("`std`"));
        assert!(load("p.toml", "scale = nan").unwrap_err().contains("`scale`"));
        assert!(load("p.toml", "mean = []").unwrap_err().contains("`mean`"));
        assert!(load("p.txt", "").unwrap_err().contains("built in (`imagenet`)"));
        assert!(Preprocess::load("imagnet").unwrap_err().to_string().contains("built in (`imagenet`)"));
        assert!(Preprocess::load("missing.toml").unwrap_err().to_string().contains("preprocess `missing.toml`"));
    }
}
