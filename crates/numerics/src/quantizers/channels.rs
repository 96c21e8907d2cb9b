//! One uniform quantizer per channel of a dense block of values, where element `i` belongs to channel
//! `(i / inner) % channels`. Does not know which axis of which tensor that is.

use super::uniform::Uniform;

/// Fits one quantizer per channel of a weight laid out `[outer, channels, inner]`: element
/// `(o * channels + c) * inner + i`. `search` sees all values of one channel, in memory order. Values that are
/// missing at the end are not seen.
pub fn fit_channels(
    data: &[f32],
    outer: usize,
    channels: usize,
    inner: usize,
    search: impl Fn(&[f32]) -> Uniform,
) -> Vec<Uniform> {
    let row = inner.max(1);
    let blocks = || data.chunks(channels.max(1).saturating_mul(row)).take(if inner == 0 { 0 } else { outer });
    let mut values = Vec::with_capacity(data.len() / channels.max(1));
    (0..channels)
        .map(|channel| {
            values.clear();
            for block in blocks() {
                let start = channel.saturating_mul(row).min(block.len());
                values.extend_from_slice(&block[start..start.saturating_add(row).min(block.len())]);
            }
            search(&values)
        })
        .collect()
}

/// Replaces each value by its level under its channel's quantizer.
pub fn fake_channels(values: &mut [f32], quantizers: &[Uniform], inner: usize) {
    if inner == 0 || quantizers.is_empty() {
        return;
    }
    for block in values.chunks_mut(inner.saturating_mul(quantizers.len())) {
        for (run, quantizer) in block.chunks_mut(inner).zip(quantizers) {
            quantizer.fake(run);
        }
    }
}

/// The code of each value under its channel's quantizer; empty without quantizers.
pub fn encode_channels(values: &[f32], quantizers: &[Uniform], inner: usize) -> Vec<i32> {
    if inner == 0 || quantizers.is_empty() {
        return Vec::new();
    }
    let mut codes = Vec::with_capacity(values.len());
    for block in values.chunks(inner.saturating_mul(quantizers.len())) {
        for (run, quantizer) in block.chunks(inner).zip(quantizers) {
            codes.extend(run.iter().map(|&value| quantizer.code(value)));
        }
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::normal;
    use crate::{IntFormat, Symmetry, rows};

    #[test]
    fn each_channel_sees_its_own_values() {
        let (outer, channels, inner) = (3, 4, 5);
        for (outer, channels, inner) in [(outer, channels, inner), (7, 4, 1), (1, 6, 2), (0, 2, 3)] {
            let data = normal(1, outer * channels * inner);
            let search = |row: &[f32]| Uniform::fit(rows::minmax(row), IntFormat::S8, Symmetry::Affine);
            let fitted = fit_channels(&data, outer, channels, inner, search);
            assert_eq!(fitted.len(), channels);
            let mut fake = data.clone();
            fake_channels(&mut fake, &fitted, inner);
            let codes = encode_channels(&data, &fitted, inner);
            for (c, quantizer) in fitted.iter().enumerate() {
                let own: Vec<f32> = (0..data.len()).filter(|i| i / inner % channels == c).map(|i| data[i]).collect();
                assert_eq!(*quantizer, search(&own));
                for i in (0..data.len()).filter(|i| i / inner % channels == c) {
                    assert_eq!(codes[i], quantizer.encode(&data[i..=i])[0]);
                    assert_eq!(fake[i], quantizer.decode(codes[i]));
                }
            }
        }
    }

    #[test]
    fn degenerate_blocks_are_harmless() {
        assert!(encode_channels(&[1.0], &[], 1).is_empty());
        fake_channels(&mut [1.0], &[], 0);
        let none = fit_channels(&[], 2, 1, 3, |row| {
            assert!(row.is_empty());
            Uniform::fit(crate::Range::ZERO, IntFormat::S8, Symmetry::Affine)
        });
        assert_eq!(none.len(), 1);
    }
}
