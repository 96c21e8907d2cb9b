//! Hugging Face's `preprocessor_config.json`, as its image processors of classification and vision backbones write it.
//! Steps that are not done here (padding, splitting) are refused, never left out.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::PreprocessProblem;
use super::preprocess::{ChannelOrder, CropOrigin, Geometry, Interpolation, Preprocess, Resize};

/// Processors that take a lone `size` number as the shorter side; all others mean a square.
const SHORTER_SIDE: &[&str] =
    &["CLIP", "ChineseCLIP", "Bit", "MobileNetV1", "MobileNetV2", "ViTHybrid", "ConvNext", "PoolFormer", "Levit"];
/// Steps that change nothing of what is fed.
const HARMLESS: &[&str] = &["do_convert_rgb", "do_reduce_labels"];
/// From this size on, processors with a `crop_pct` resize to a square and crop nothing.
const NO_CROP_FROM: u32 = 384;

#[derive(Deserialize)]
struct Config {
    #[serde(alias = "feature_extractor_type")]
    image_processor_type: Option<String>,
    size: Option<Value>,
    crop_size: Option<Value>,
    crop_pct: Option<f64>,
    do_resize: Option<bool>,
    do_center_crop: Option<bool>,
    do_rescale: Option<bool>,
    do_normalize: Option<bool>,
    do_flip_channel_order: Option<bool>,
    rescale_factor: Option<f64>,
    image_mean: Option<Vec<f64>>,
    image_std: Option<Vec<f64>>,
    resample: Option<u8>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Config {
    /// Whether it has no key that says what becomes of images.
    fn says_nothing(&self) -> bool {
        let steps =
            [self.do_resize, self.do_center_crop, self.do_rescale, self.do_normalize, self.do_flip_channel_order];
        let numbers = self.image_mean.is_some() || self.image_std.is_some() || self.rescale_factor.is_some();
        let sizes = self.size.is_some() || self.crop_size.is_some() || self.crop_pct.is_some();
        !numbers && !sizes && self.resample.is_none() && steps.iter().all(Option::is_none)
    }
}

/// Reads the text of a `preprocessor_config.json`; numbers are not checked yet.
pub(super) fn parse(name: &str, text: &str) -> Result<Preprocess, PreprocessProblem> {
    let config: Config = serde_json::from_str(text).map_err(|error| PreprocessProblem::Syntax(error.to_string()))?;
    let asked = |(key, value): &(&String, &Value)| {
        key.starts_with("do_") && **value == Value::Bool(true) && !HARMLESS.contains(&key.as_str())
    };
    if let Some((key, _)) = config.rest.iter().find(asked) {
        return Err(PreprocessProblem::Unsupported(key.clone()));
    }
    if config.says_nothing() {
        return Err(PreprocessProblem::Syntax("it has none of the keys of a preprocessor_config.json".to_owned()));
    }
    let bgr = config.do_flip_channel_order.unwrap_or(false);
    let normalize = config.do_normalize.unwrap_or(config.image_mean.is_some());
    let needed = |numbers: Option<Vec<f64>>, key| match numbers {
        Some(numbers) => Ok(numbers),
        None => Err(PreprocessProblem::Value { key, what: "is missing though `do_normalize` is true".to_owned() }),
    };
    let geometry = geometry(&config)?;
    Ok(Preprocess {
        name: name.to_owned(),
        geometry,
        interpolation: interpolation(config.resample)?,
        crop_origin: CropOrigin::Floor,
        // Configurations from before `do_rescale` mean images of 0 to 1.
        scale: if config.do_rescale.unwrap_or(true) { config.rescale_factor.unwrap_or(1.0 / 255.0) } else { 1.0 },
        mean: if normalize { needed(config.image_mean, "image_mean")? } else { vec![0.0] },
        std: if normalize { needed(config.image_std, "image_std")? } else { vec![1.0] },
        layout: None,
        channels: if bgr { ChannelOrder::Bgr } else { ChannelOrder::Rgb },
    })
}

fn geometry(config: &Config) -> Result<Geometry, PreprocessProblem> {
    let kind = config.image_processor_type.as_deref().unwrap_or_default();
    let crops = config.do_center_crop.unwrap_or(config.crop_size.is_some());
    let mut crop = match &config.crop_size {
        Some(size) if crops => Some(sides("crop_size", size)?),
        None if crops => {
            let what = "is missing though `do_center_crop` is true".to_owned();
            return Err(PreprocessProblem::Value { key: "crop_size", what });
        }
        _ => None,
    };
    let mut resize = match &config.size {
        Some(size) if config.do_resize.unwrap_or(true) => {
            Some(resize(size, SHORTER_SIDE.iter().any(|start| kind.starts_with(start)))?)
        }
        _ => None,
    };
    if let (Some(share), Some(Resize::Shorter(side))) = (config.crop_pct, resize) {
        if side >= NO_CROP_FROM {
            resize = Some(Resize::Exact([side, side]));
        } else if share > 0.0 {
            resize = Some(Resize::Shorter((f64::from(side) / share) as u32));
            crop = Some(crop.unwrap_or([side, side]));
        }
    }
    Ok(Geometry::Steps { resize, crop })
}

fn resize(size: &Value, lone_is: impl Into<Lone>) -> Result<Resize, PreprocessProblem> {
    if let (Some(side), Lone::ShorterSide) = (number(size), lone_is.into()) {
        return Ok(Resize::Shorter(side));
    }
    match size.get("shortest_edge").and_then(number) {
        Some(_) if size.get("longest_edge").is_some_and(|edge| !edge.is_null()) => {
            Err(PreprocessProblem::Unsupported("longest_edge".to_owned()))
        }
        Some(side) => Ok(Resize::Shorter(side)),
        None => Ok(Resize::Exact(sides("size", size)?)),
    }
}

/// What a lone number means.
enum Lone {
    ShorterSide,
    Square,
}

impl From<bool> for Lone {
    fn from(shorter: bool) -> Self {
        if shorter { Self::ShorterSide } else { Self::Square }
    }
}

fn sides(key: &'static str, size: &Value) -> Result<[u32; 2], PreprocessProblem> {
    let side = |name| size.get(name).and_then(number);
    match (number(size), side("height"), side("width")) {
        (Some(side), _, _) => Ok([side, side]),
        (_, Some(height), Some(width)) => Ok([height, width]),
        _ => {
            let what = format!("{size} is neither a number nor {{height, width}} or {{shortest_edge}}");
            Err(PreprocessProblem::Value { key, what })
        }
    }
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|n| u32::try_from(n).ok())
}

/// The kernels by Pillow's numbers.
fn interpolation(resample: Option<u8>) -> Result<Interpolation, PreprocessProblem> {
    match resample {
        Some(0) => Ok(Interpolation::Nearest),
        Some(1) => Ok(Interpolation::Lanczos),
        None | Some(2) => Ok(Interpolation::Bilinear),
        Some(3) => Ok(Interpolation::Bicubic),
        Some(other) => {
            let what = format!("{other} is none of 0 (nearest), 1 (lanczos), 2 (bilinear), 3 (bicubic)");
            Err(PreprocessProblem::Value { key: "resample", what })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry_of(text: &str) -> Geometry {
        parse("p", text).unwrap().geometry
    }

    #[test]
    fn vit_and_clip() {
        let vit = parse(
            "p",
            r#"{"do_normalize": true, "do_rescale": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5],
                "image_processor_type": "ViTImageProcessor", "image_std": [0.5, 0.5, 0.5], "resample": 2,
                "rescale_factor": 0.00392156862745098, "size": {"height": 224, "width": 224}}"#,
        )
        .unwrap();
        assert_eq!(vit.geometry, Geometry::Steps { resize: Some(Resize::Exact([224, 224])), crop: None });
        assert_eq!((vit.mean.len(), vit.interpolation), (3, Interpolation::Bilinear));
        let clip = r#"{"crop_size": 224, "do_center_crop": true, "do_resize": true, "resample": 3, "size": 224,
                       "do_convert_rgb": true, "feature_extractor_type": "CLIPFeatureExtractor"}"#;
        let clip = parse("p", clip).unwrap();
        assert_eq!(clip.geometry, Geometry::Steps { resize: Some(Resize::Shorter(224)), crop: Some([224, 224]) });
        assert_eq!((clip.mean, clip.std, clip.scale), (vec![0.0], vec![1.0], 1.0 / 255.0));
    }

    #[test]
    fn sizes() {
        let shorter = |side, crop| Geometry::Steps { resize: Some(Resize::Shorter(side)), crop };
        let square = |side| Geometry::Steps { resize: Some(Resize::Exact([side, side])), crop: None };
        assert_eq!(
            geometry_of(r#"{"size": {"shortest_edge": 256}, "crop_size": {"height": 8, "width": 9}}"#),
            shorter(256, Some([8, 9]))
        );
        assert_eq!(geometry_of(r#"{"size": 300}"#), square(300));
        assert_eq!(
            geometry_of(r#"{"size": {"shortest_edge": 224}, "crop_pct": 0.875}"#),
            shorter(256, Some([224, 224]))
        );
        assert_eq!(geometry_of(r#"{"size": {"shortest_edge": 384}, "crop_pct": 0.875}"#), square(384));
        assert_eq!(
            geometry_of(r#"{"size": 3, "do_resize": false, "crop_size": 4, "do_center_crop": false}"#),
            Geometry::Steps { resize: None, crop: None }
        );
        assert_eq!(parse("p", r#"{"do_rescale": false, "do_flip_channel_order": true}"#).unwrap().scale, 1.0);
    }

    #[test]
    fn what_is_not_done_is_refused() {
        let refusal = |text| parse("p", text).unwrap_err().to_string();
        assert!(refusal(r#"{"do_pad": true}"#).contains("`do_pad`"));
        assert!(refusal(r#"{"hidden_size": 192}"#).contains("none of the keys"));
        assert!(refusal(r#"{"size": {"shortest_edge": 800, "longest_edge": 1333}}"#).contains("longest_edge"));
        assert!(refusal(r#"{"resample": 5}"#).contains("5 is none of"));
        assert!(refusal(r#"{"size": "big"}"#).contains("neither a number"));
        assert!(refusal(r#"{"do_normalize": true}"#).contains("image_mean"));
        assert!(refusal("[]").contains("invalid"));
    }
}
