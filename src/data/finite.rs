//! Looks for numbers that no calibration survives. Knows nothing of files.

use onnxq_ir::{ElementType, Tensor};

/// What is wrong with a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum BadElement {
    /// NaN or infinite.
    NotFinite(f64),
    /// A bool that is neither 0 nor 1.
    NotBool,
}

/// The first bad element.
pub(super) fn bad_element(tensor: &Tensor) -> Option<BadElement> {
    match tensor.element() {
        ElementType::F32 => not_finite(&tensor.view::<f32>()?, |x| x.is_finite(), |&x| x.into()),
        ElementType::F64 => not_finite(&tensor.view::<f64>()?, |x| x.is_finite(), |&x| x),
        ElementType::F16 => not_finite(&tensor.view::<half::f16>()?, |x| x.is_finite(), |&x| x.into()),
        ElementType::BF16 => not_finite(&tensor.view::<half::bf16>()?, |x| x.is_finite(), |&x| x.into()),
        ElementType::Bool => tensor.bytes().iter().any(|&byte| byte > 1).then_some(BadElement::NotBool),
        _ => None,
    }
}

fn not_finite<T>(elements: &[T], is_finite: impl Fn(&T) -> bool, value: impl Fn(&T) -> f64) -> Option<BadElement> {
    // Blocks without an early end inside become vector code.
    let block = elements.chunks(1024).find(|block| !block.iter().fold(true, |all, x| all & is_finite(x)))?;
    let bad = block.iter().find(|x| !is_finite(x))?;
    Some(BadElement::NotFinite(value(bad)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_one_anywhere() {
        for at in [0, 1023, 1024, 2999] {
            let mut elements = vec![1.0f32; 3000];
            assert_eq!(bad_element(&Tensor::new(vec![3000], elements.clone())), None);
            elements[at] = f32::NEG_INFINITY;
            let found = bad_element(&Tensor::new(vec![3000], elements));
            assert_eq!(found, Some(BadElement::NotFinite(f64::NEG_INFINITY)));
        }
        let nan = bad_element(&Tensor::scalar(half::f16::NAN));
        assert!(matches!(nan, Some(BadElement::NotFinite(x)) if x.is_nan()));
        assert!(bad_element(&Tensor::scalar(f64::INFINITY)).is_some());
        let bools = Tensor::from_bytes(ElementType::Bool, vec![2], vec![1u8, 2].into()).unwrap();
        assert_eq!(bad_element(&bools), Some(BadElement::NotBool));
        assert_eq!(bad_element(&Tensor::scalar(i64::MAX)), None);
    }
}
