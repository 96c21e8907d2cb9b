//! Seeded values for the tests of this crate, the same on every machine.

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Uniform in [0, 1).
pub(crate) fn uniform(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    (0..count).map(|_| (split_mix(&mut state) >> 40) as f32 / (1 << 24) as f32).collect()
}

/// Near normal: the sum of twelve uniform values less six.
pub(crate) fn normal(seed: u64, count: usize) -> Vec<f32> {
    uniform(seed, 12 * count).chunks(12).map(|u| u.iter().sum::<f32>() - 6.0).collect()
}

/// Any bit pattern: NaN, infinite and subnormal values included.
pub(crate) fn any_floats(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    (0..count).map(|_| f32::from_bits(split_mix(&mut state) as u32)).collect()
}

/// A number below `bound`, for places to split.
pub(crate) fn below(state: &mut u64, bound: usize) -> usize {
    (split_mix(state) % bound.max(1) as u64) as usize
}
