//! Whole data sets, from files to samples.

use std::path::Path;

use onnxq_ir::{Dim, ElementType, Tensor, TensorType};

use super::sample_files::{integers_npy, npy, npz, ramp_npy, write};
use super::*;

fn spec(name: &str, dims: &[i64]) -> InputSpec {
    let shape = dims.iter().map(|&n| usize::try_from(n).map_or(Dim::Unknown, Dim::Known)).collect();
    let tensor_type = TensorType { element: ElementType::F32, shape: Some(shape) };
    InputSpec { name: name.to_owned(), tensor_type, has_default: false }
}

fn options(path: &Path) -> DataOptions {
    DataOptions { path: path.to_owned(), preprocess: None, samples: None, seed: None, decode_tensor: decode }
}

/// A toy encoding in the place of protobuf: `name|n` is float32 [n] of ones.
fn decode(bytes: &[u8]) -> Result<(String, Tensor), String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let (name, n) = text.split_once('|').ok_or("no `|`")?;
    let n: usize = n.parse().map_err(|_| "no number")?;
    Ok((name.to_owned(), Tensor::new(vec![n], vec![1.0f32; n])))
}

fn open(specs: &[InputSpec], options: &DataOptions) -> Result<DataSet, String> {
    DataSet::open(specs, options).map_err(|error| shortened(&error, &options.path))
}

fn shortened(error: &DataError, path: &Path) -> String {
    let folder = path.ancestors().find(|path| path.parent() == Some(&std::env::temp_dir())).unwrap_or(path);
    error.to_string().replace(&format!("{}/", folder.display()), "")
}

fn samples(set: &DataSet) -> Vec<Sample> {
    set.stream().unwrap().collect::<Result<_, _>>().unwrap()
}

fn first_elements(set: &DataSet) -> Vec<f32> {
    samples(set).iter().map(|sample| sample.inputs[0].1.to_f32().unwrap()[0]).collect()
}

#[test]
fn streams_can_cross_threads() {
    fn is_send<T: Send + 'static>() {}
    is_send::<SampleStream>();
    is_send::<DataSet>();
}

#[test]
fn an_archive_is_streamed_twice_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let arrays = [
        ("label", integers_npy(&[5, 6, 7])),
        ("x", ramp_npy(&[3, 2])),
        ("extra", ramp_npy(&[9])),
        ("k", ramp_npy(&[])),
    ];
    let path = write(&dir, "c.npz", &npz(&arrays));
    let set = open(&[spec("k", &[]), spec("x", &[-1, 2])], &options(&path)).unwrap();
    assert_eq!((set.len(), set.is_empty()), (3, false));
    assert_eq!(set.labels(), Some(&[5, 6, 7][..]));
    assert_eq!(set.notes().len(), 1);
    assert!(set.notes()[0].ends_with("c.npz`: ignored keys that are no inputs: `extra`"), "{}", set.notes()[0]);
    let first = samples(&set);
    assert_eq!(first, samples(&set));
    assert_eq!(first[2].index, 2);
    let x = Tensor::new(vec![1, 2], vec![4.0f32, 5.0]);
    assert_eq!(first[2].inputs, [(0, Tensor::scalar(0.0f32)), (1, x)]);
}

#[test]
fn a_choice_of_samples() {
    let dir = tempfile::tempdir().unwrap();
    let labels: Vec<i64> = (100..120).collect();
    let path = write(&dir, "c.npz", &npz(&[("x", ramp_npy(&[20])), ("label", integers_npy(&labels))]));
    let chosen = |samples, seed| open(&[spec("x", &[-1])], &DataOptions { samples, seed, ..options(&path) });
    let first = chosen(Some(3), None).unwrap();
    assert_eq!((first_elements(&first), first.labels()), (vec![0.0, 1.0, 2.0], Some(&[100, 101, 102][..])));
    let random = chosen(Some(5), Some(7)).unwrap();
    let elements = first_elements(&random);
    assert!(elements.len() == 5 && elements.is_sorted() && elements != [0.0, 1.0, 2.0, 3.0, 4.0], "{elements:?}");
    let labels: Vec<f32> = random.labels().unwrap().iter().map(|&label| (label - 100) as f32).collect();
    assert_eq!(labels, elements);
    assert_eq!(chosen(None, Some(7)).unwrap().len(), 20);
    assert_eq!(chosen(Some(99), None).unwrap().len(), 20);
    assert!(chosen(Some(0), None).unwrap_err().contains("no samples"));
}

#[test]
fn a_lone_array() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, "any.npy", &ramp_npy(&[4, 2]));
    let mut weight = spec("w", &[3]);
    weight.has_default = true;
    let set = open(&[weight, spec("x", &[2, 2])], &options(&path)).unwrap();
    assert_eq!(first_elements(&set), [0.0, 4.0]);
    assert_eq!(samples(&set)[1].inputs[0].0, 1);
    let message = open(&[spec("a", &[-1, 2]), spec("b", &[-1])], &options(&path)).unwrap_err();
    assert_eq!(
        message,
        "`any.npy`: a lone .npy file serves a model with one input; the model's inputs: `a` float[?, 2], `b` float[?]; the \
         data: `any` float32[4, 2]; pass a .npz with a key per input, or a folder of NAME.npy files"
    );
}

#[test]
fn folders_of_arrays() {
    let dir = tempfile::tempdir().unwrap();
    for (name, labels, start) in [("b.npz", [3, 4], 10.0f32), ("a.npz", [1, 2], 0.0)] {
        let x = npy("<f4", &[2], bytemuck::cast_slice(&[start, start + 1.0]));
        write(&dir, &format!("npz/{name}"), &npz(&[("x", x), ("label", integers_npy(&labels)), ("y", ramp_npy(&[1]))]));
    }
    let set = open(&[spec("x", &[-1])], &options(&dir.path().join("npz"))).unwrap();
    assert_eq!(first_elements(&set), [0.0, 1.0, 10.0, 11.0]);
    assert_eq!(set.labels(), Some(&[1, 2, 3, 4][..]));
    assert_eq!(set.notes().len(), 1);
    let chosen = DataOptions { samples: Some(2), seed: Some(3), ..options(&dir.path().join("npz")) };
    let chosen = open(&[spec("x", &[-1])], &chosen).unwrap();
    let (elements, labels) = (first_elements(&chosen), chosen.labels().unwrap());
    for (x, label) in elements.iter().zip(labels) {
        assert_eq!([0.0, 1.0, 10.0, 11.0][*label as usize - 1], *x);
    }
    // Named like the inputs.
    write(&dir, "named/a.npy", &ramp_npy(&[2]));
    write(&dir, "named/b.npy", &ramp_npy(&[2, 3]));
    write(&dir, "named/label.npy", &integers_npy(&[8, 9]));
    let named = options(&dir.path().join("named"));
    let set = open(&[spec("a", &[-1]), spec("b", &[-1, 3])], &named).unwrap();
    assert_eq!((set.len(), set.labels()), (2, Some(&[8, 9][..])));
    assert!(open(&[spec("a", &[-1]), spec("c", &[-1])], &named).unwrap_err().contains("no array for `c`"));
    // Parts of a lone input's data.
    write(&dir, "parts/2.npy", &ramp_npy(&[2]));
    write(&dir, "parts/1.npy", &ramp_npy(&[3]));
    let set = open(&[spec("x", &[-1])], &options(&dir.path().join("parts"))).unwrap();
    assert_eq!(first_elements(&set), [0.0, 1.0, 2.0, 0.0, 1.0]);
}

#[test]
fn what_is_not_finite_names_input_and_sample() {
    let dir = tempfile::tempdir().unwrap();
    let x = npy("<f4", &[3, 2], bytemuck::cast_slice(&[0.0, 1.0, 2.0, 3.0, f32::NAN, 5.0]));
    let path = write(&dir, "c.npz", &npz(&[("x", x)]));
    let set = open(&[spec("x", &[-1, 2])], &options(&path)).unwrap();
    let mut stream = set.stream().unwrap();
    assert!(stream.next().unwrap().is_ok() && stream.next().unwrap().is_ok());
    let message = shortened(&stream.next().unwrap().unwrap_err(), &path);
    assert_eq!(message, "`c.npz`: array `x`: NaN in sample 2 of input `x`; remove the sample or repair its values");
    assert!(stream.next().is_none());
}

#[test]
fn test_data_sets_are_one_sample_each() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, "model.onnx", b"");
    for (set, files) in [(0, ["b|3", "a|2"]), (1, ["a|4", "b|3"]), (10, ["|4", "|3"])] {
        for (at, text) in files.iter().enumerate() {
            write(&dir, &format!("test_data_set_{set}/input_{at}.pb"), text.as_bytes());
        }
        write(&dir, &format!("test_data_set_{set}/output_0.pb"), b"garbage");
    }
    let specs = [spec("a", &[-1]), spec("b", &[3])];
    let set = open(&specs, &options(dir.path())).unwrap();
    let shapes: Vec<_> =
        samples(&set).iter().map(|s| s.inputs.iter().map(|i| (i.0, i.1.len())).collect::<Vec<_>>()).collect();
    assert_eq!(shapes, [[(0, 2), (1, 3)], [(0, 4), (1, 3)], [(0, 4), (1, 3)]]);
    assert_eq!(open(&specs, &options(&dir.path().join("test_data_set_1"))).unwrap().len(), 1);
    let message = open(&[spec("a", &[-1]), spec("b", &[4])], &options(dir.path())).unwrap_err();
    assert!(
        message.starts_with("`test_data_set_0/input_0.pb`: shape [3] is not that of input `b` (float[4])"),
        "{message}"
    );
    let message = open(&[spec("a", &[-1]), spec("c", &[4]), spec("d", &[1])], &options(dir.path())).unwrap_err();
    assert!(message.contains("no array for `c`, `d`; the model's inputs: `a`") && message.contains("`b` float32[3]"));
    write(&dir, "test_data_set_0/input_1.pb", b"garbage");
    let message = open(&specs, &options(dir.path())).unwrap_err();
    assert!(message.contains("input_1.pb`: is no ONNX TensorProto (no `|`)"), "{message}");
}

#[test]
fn other_paths() {
    let dir = tempfile::tempdir().unwrap();
    let message = |path: &Path| open(&[spec("x", &[-1])], &options(path)).unwrap_err();
    assert!(message(&dir.path().join("missing.npz")).starts_with("`missing.npz`: can't be read:"));
    assert!(message(&write(&dir, "a.csv", b"1,2")).starts_with("`a.csv`: is no data that can be read; pass a .npz"));
    assert!(message(&write(&dir, "g.npz", b"garbage")).starts_with("`g.npz`: is no sound .npz archive"));
    assert!(message(&write(&dir, "g.npy", b"garbage")).starts_with("`g.npy`: is no .npy data"));
    assert!(message(&write(&dir, "e.npz", &npz::<Vec<u8>>(&[]))).contains("no array for `x`"));
}

/// A PNG of this size whose pixels are `f(y, x)`.
fn png(dir: &tempfile::TempDir, name: &str, [height, width]: [u32; 2], f: impl Fn(u32, u32) -> [u8; 3]) {
    let path = write(dir, name, b"");
    image::RgbImage::from_fn(width, height, |x, y| image::Rgb(f(y, x))).save(path).unwrap();
}

fn with_preprocess(path: &Path, toml: &str) -> DataOptions {
    let file = path.join("../p.toml");
    std::fs::write(&file, toml).unwrap();
    DataOptions { preprocess: Some(Preprocess::load(file.to_str().unwrap()).unwrap()), ..options(path) }
}

#[test]
fn images_of_the_right_size_are_only_normalized() {
    let dir = tempfile::tempdir().unwrap();
    png(&dir, "img/b.png", [2, 3], |y, x| [y as u8, x as u8, 200]);
    png(&dir, "img/a.png", [2, 3], |_, _| [10, 20, 30]);
    write(&dir, "img/labels.csv", b"file,label\na.png,4\nb.png,5\n");
    let folder = dir.path().join("img");
    let toml = "resize = 50\nscale = 1\nmean = [1, 2, 3]\nstd = [2, 1, 1]";
    let mut with = with_preprocess(&folder, toml);
    let set = open(&[spec("x", &[-1, 3, 2, 3])], &with).unwrap();
    assert_eq!(set.labels(), Some(&[4, 5][..]));
    let all = samples(&set);
    assert_eq!(all[0].inputs[0].1.shape(), [1, 3, 2, 3]);
    let planes = |s: &Sample| s.inputs[0].1.to_f32().unwrap().into_owned();
    assert_eq!(planes(&all[0]), [[4.5; 6], [18.0; 6], [27.0; 6]].concat());
    let b =
        [-0.5, -0.5, -0.5, 0.0, 0.0, 0.0, -2.0, -1.0, 0.0, -2.0, -1.0, 0.0, 197.0, 197.0, 197.0, 197.0, 197.0, 197.0];
    assert_eq!(planes(&all[1]), b);
    // Another layout, order and batch.
    with = with_preprocess(&folder, "scale = 1\nchannels = \"bgr\"");
    let set = open(&[spec("x", &[2, 2, 3, 3])], &with).unwrap();
    assert_eq!(set.len(), 1);
    let set = open(&[spec("x", &[2, -1, -1, 3])], &with).unwrap();
    let all = samples(&set);
    assert_eq!(all[0].inputs[0].1.shape(), [2, 2, 3, 3]);
    assert_eq!(planes(&all[0])[18..24], [200.0, 0.0, 0.0, 200.0, 1.0, 0.0]);
    assert_eq!(set.labels(), Some(&[4, 5][..]));
    // Grey, without a batch.
    let set = open(&[spec("x", &[1, 2, 3])], &with).unwrap();
    assert_eq!(samples(&set)[0].inputs[0].1.shape(), [1, 2, 3]);
    assert_eq!(planes(&samples(&set)[0]), [18.0; 6]);
}

#[test]
fn images_are_resized_and_cropped() {
    let dir = tempfile::tempdir().unwrap();
    // Constant areas survive any interpolation; the centre tells where the crop lies.
    png(&dir, "img/a.png", [40, 80], |_, x| if x < 40 { [0; 3] } else { [255; 3] });
    let folder = dir.path().join("img");
    for kernel in ["nearest", "bilinear", "bicubic", "lanczos"] {
        let toml = format!("resize = 20\ncrop = 16\ninterpolation = \"{kernel}\"");
        let set = open(&[spec("x", &[-1, 3, 16, 16])], &with_preprocess(&folder, &toml)).unwrap();
        let pixels = samples(&set).remove(0).inputs.remove(0).1;
        let pixels = pixels.to_f32().unwrap();
        for row in pixels.chunks(16) {
            assert!(row[..5].iter().all(|x| x.abs() < 0.02) && row[11..].iter().all(|x| (x - 1.0).abs() < 0.02));
            assert!(row[7] < 0.5 && row[8] > 0.5);
        }
    }
    let imagenet = DataOptions { preprocess: Some(Preprocess::imagenet()), ..options(&folder) };
    for (dims, shape) in
        [([-1, 3, -1, -1], [1, 3, 224, 224]), ([1, 3, 112, 96], [1, 3, 112, 96]), ([1, 1, 28, 28], [1, 1, 28, 28])]
    {
        let set = open(&[spec("x", &dims)], &imagenet).unwrap();
        assert_eq!(samples(&set)[0].inputs[0].1.shape(), shape);
    }
}

#[test]
fn image_errors() {
    let dir = tempfile::tempdir().unwrap();
    png(&dir, "img/a.png", [4, 4], |_, _| [0; 3]);
    let folder = dir.path().join("img");
    let image = spec("x", &[-1, 3, 8, 8]);
    let message = open(std::slice::from_ref(&image), &options(&folder)).unwrap_err();
    assert_eq!(
        message,
        "`img`: images need `--preprocess` to say how they become the model's input; `--preprocess imagenet` is the usual one"
    );
    let open_with = |spec: InputSpec, toml: &str| open(&[spec], &with_preprocess(&folder, toml)).unwrap_err();
    assert!(open_with(image.clone(), "crop = 16").contains("gives images of 16x16 (height x width), but input `x`"));
    assert!(
        open_with(image.clone(), "mean = [1, 2]").contains("gives 2 means and 1 standard deviations for input `x`")
    );
    assert!(open_with(spec("x", &[-1, 4, 8, 8]), "").contains("which has 4 channels"));
    assert!(open_with(spec("x", &[-1, 8]), "").contains("images serve a model with one float input"));
    assert!(open_with(spec("x", &[2, 3, 8, 8]), "").contains("1 samples can't be split into batches of 2"));
    let read = |toml: &str| {
        let set = open(std::slice::from_ref(&image), &with_preprocess(&folder, toml)).unwrap();
        shortened(&set.stream().unwrap().next().unwrap().unwrap_err(), &folder)
    };
    assert_eq!(read(""), "`img/a.png`: the image is 4x4 (height x width) after preprocessing, but the input takes 8x8");
    assert_eq!(
        read("crop = 8"),
        "`img/a.png`: the image is 4x4 (height x width) before the crop, smaller than the crop of 8x8"
    );
    write(&dir, "img/a.png", b"garbage");
    assert!(read("").starts_with("`img/a.png`: is no image that can be decoded"));
    png(&dir, "img/a.png", [1, 40_000], |_, _| [0; 3]);
    assert!(read("resize = 256").contains("it is too long"));
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn trained_models_data() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models");
    let path = folder.join("deit_fmnist/calib.npz");
    if !path.exists() {
        eprintln!("skipped: {} is missing", path.display());
        return;
    }
    let set = open(&[spec("image", &[-1, 1, 28, 28])], &options(&path)).unwrap();
    assert_eq!((set.len(), set.labels().unwrap().len(), set.notes().len()), (256, 256, 0));
    assert!(samples(&set).iter().all(|sample| sample.inputs[0].1.shape() == [1, 1, 28, 28]));
    let images = DataOptions {
        preprocess: Some(Preprocess::imagenet()),
        samples: Some(4),
        ..options(&folder.join("deit_tiny/calib"))
    };
    let set = open(&[spec("image", &[-1, 3, 224, 224])], &images).unwrap();
    assert_eq!(set.labels(), Some(&[617, 566, 107, 914][..]));
    assert!(samples(&set).iter().all(|sample| sample.inputs[0].1.shape() == [1, 3, 224, 224]));
}
