//! What must hold of any bytes that are taken for calibration data: they are refused, or give whole samples.

use std::path::PathBuf;

use onnxq_ir::{Dim, ElementType, Tensor, TensorType};

use super::data::{DataOptions, DataSet, InputSpec};

/// Nothing panics, and every sample has a finite value for the input, of its type and shape. The bytes are also taken for
/// a lone array, since an archive's checksums keep most damage from getting that far.
pub(crate) fn check(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["data.npz", "data.npy"] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("the folder can be written to");
        check_file(path);
    }
}

fn check_file(path: PathBuf) {
    let shape = Some(vec![Dim::Symbol("N".to_owned()), Dim::Known(3)]);
    let tensor_type = TensorType { element: ElementType::F32, shape };
    let input = InputSpec { name: "x".to_owned(), tensor_type, has_default: false };
    let decode_tensor = |_: &[u8]| Err("no tensor here".to_owned());
    let options = DataOptions { path, preprocess: None, samples: Some(8), seed: Some(1), decode_tensor };
    let Ok(data) = DataSet::open(&[input], &options) else { return };
    assert!((1..=8).contains(&data.len()));
    let Ok(stream) = data.stream() else { return };
    for sample in stream {
        let Ok(sample) = sample else { return };
        let [(0, tensor)] = &*sample.inputs else { panic!("one input, not {:?}", sample.inputs) };
        assert!(fits(tensor), "{tensor:?}");
    }
}

/// Rows of an array, or a slice of one that holds whole inputs.
fn fits(tensor: &Tensor) -> bool {
    matches!(tensor.shape(), [_, 3])
        && tensor.view::<f32>().is_some_and(|elements| elements.iter().all(|x| x.is_finite()))
}
