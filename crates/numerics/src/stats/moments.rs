//! Mean and variance per channel, exact whatever the order of values: sums are integers in units of the smallest
//! float. Knows no histogram.

use serde::{Deserialize, Serialize};

use super::StateError;

/// Digits of 32 bits. A float is an integer below `2^277` in units of 2^-149, its square below `2^554` in units of
/// 2^-298; 64 bits more hold the sum of as many as can be counted.
const SUM_DIGITS: usize = 11;
const SQUARE_DIGITS: usize = 20;
const UNIT_EXPONENT: i32 = -149;
/// How many values may be added before digits must be carried: each adds less than 2^33 to an `i64`.
const UNCARRIED: usize = 1 << 29;

/// Count, mean and variance of one channel's finite values. Equal for equal values, however split or merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawMoments", into = "RawMoments")]
pub struct ChannelMoments {
    count: u64,
    non_finite: u64,
    /// Digits 0..2^32, but for the last, which has the sign.
    sum: [i64; SUM_DIGITS],
    squares: [i64; SQUARE_DIGITS],
}

impl Default for ChannelMoments {
    fn default() -> Self {
        Self { count: 0, non_finite: 0, sum: [0; SUM_DIGITS], squares: [0; SQUARE_DIGITS] }
    }
}

impl ChannelMoments {
    /// Nothing seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in values.
    pub fn observe(&mut self, values: impl IntoIterator<Item = f32>) {
        let mut uncarried = 0;
        for value in values {
            self.add(value);
            uncarried += 1;
            if uncarried == UNCARRIED {
                self.carry();
                uncarried = 0;
            }
        }
        self.carry();
    }

    /// Takes in what another one saw.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.non_finite += other.non_finite;
        self.sum.iter_mut().zip(other.sum).for_each(|(own, other)| *own += other);
        self.squares.iter_mut().zip(other.squares).for_each(|(own, other)| *own += other);
        self.carry();
    }

    /// How many finite values were seen.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many values were NaN or infinite.
    pub fn non_finite(&self) -> u64 {
        self.non_finite
    }

    /// The mean, 0 if nothing was seen.
    pub fn mean(&self) -> f64 {
        let (negative, sum) = magnitude(&self.sum);
        let mean = to_f64(&sum, UNIT_EXPONENT) / self.count.max(1) as f64;
        if negative { -mean } else { mean }
    }

    /// The biased variance (over the count, not the count less one), without cancellation; 0 if nothing was seen.
    pub fn variance(&self) -> f64 {
        let count = self.count.max(1);
        let (_, sum) = magnitude(&self.sum);
        let (_, squares) = magnitude(&self.squares);
        // N S2 - S1^2, which is never negative.
        let scaled = product(&squares, &[count as u32, (count >> 32) as u32]);
        let difference = difference(&scaled, &product(&sum, &sum));
        to_f64(&difference, 2 * UNIT_EXPONENT) / (count as f64 * count as f64)
    }

    #[inline]
    fn add(&mut self, value: f32) {
        let bits = value.to_bits();
        let exponent = (bits >> 23) & 0xff;
        if exponent == 0xff {
            self.non_finite += 1;
            return;
        }
        self.count += 1;
        let hidden = u32::from(exponent != 0) << 23;
        let mantissa = u64::from(bits & 0x7f_ffff | hidden);
        let place = exponent.saturating_sub(1) as usize;
        let shifted = (mantissa << (place % 32)) as i64;
        let sign = 1 - 2 * i64::from(bits >> 31);
        self.sum[place / 32] += sign * (shifted & DIGIT);
        self.sum[place / 32 + 1] += sign * (shifted >> 32);
        let place = 2 * place;
        let shifted = u128::from(mantissa * mantissa) << (place % 32);
        self.squares[place / 32] += shifted as i64 & DIGIT;
        self.squares[place / 32 + 1] += (shifted >> 32) as i64 & DIGIT;
        self.squares[place / 32 + 2] += (shifted >> 64) as i64;
    }

    /// Brings the digits to the one form that a number has.
    fn carry(&mut self) {
        carry(&mut self.sum);
        carry(&mut self.squares);
    }
}

const DIGIT: i64 = 0xffff_ffff;

fn carry(digits: &mut [i64]) {
    let last = digits.len() - 1;
    for i in 0..last {
        let over = digits[i] >> 32;
        digits[i] &= DIGIT;
        digits[i + 1] += over;
    }
}

/// Sign and magnitude of a carried number.
fn magnitude(digits: &[i64]) -> (bool, Vec<u32>) {
    let negative = digits.last().is_some_and(|&last| last < 0);
    let mut digits = digits.to_vec();
    if negative {
        for digit in &mut digits {
            *digit = -*digit;
        }
        carry(&mut digits);
    }
    // The last digit has room: 64 bits of counts do not fill it.
    (negative, digits.into_iter().map(|digit| digit as u32).collect())
}

fn product(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut digits = vec![0u32; a.len() + b.len()];
    for (i, &a) in a.iter().enumerate() {
        let mut over = 0;
        for (j, &b) in b.iter().enumerate() {
            let sum = u64::from(a) * u64::from(b) + u64::from(digits[i + j]) + over;
            digits[i + j] = sum as u32;
            over = sum >> 32;
        }
        digits[i + b.len()] = over as u32;
    }
    digits
}

/// `a - b` for `a >= b`; the shorter one is extended by zeros.
fn difference(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut borrow = 0;
    let digit = |digits: &[u32], i: usize| i64::from(digits.get(i).copied().unwrap_or(0));
    (0..a.len().max(b.len()))
        .map(|i| {
            let difference = digit(a, i) - digit(b, i) - borrow;
            borrow = i64::from(difference < 0);
            difference as u32
        })
        .collect()
}

/// From the highest digit down, within two roundings of exact.
fn to_f64(digits: &[u32], unit_exponent: i32) -> f64 {
    let Some(top) = digits.iter().rposition(|&digit| digit != 0) else { return 0.0 };
    // Four digits hold at least 97 bits: the rest is below the rounding.
    let low = top.saturating_sub(3);
    let value = digits[low..=top].iter().rev().fold(0u128, |value, &digit| value << 32 | u128::from(digit));
    let exponent = 32 * low as i32 + unit_exponent;
    // In two factors, for the exponent alone may be below those of f64.
    value as f64 * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2)
}

#[derive(Serialize, Deserialize)]
struct RawMoments {
    count: u64,
    non_finite: u64,
    sum: [i64; SUM_DIGITS],
    squares: [i64; SQUARE_DIGITS],
}

impl From<ChannelMoments> for RawMoments {
    fn from(moments: ChannelMoments) -> Self {
        let ChannelMoments { count, non_finite, sum, squares } = moments;
        Self { count, non_finite, sum, squares }
    }
}

impl TryFrom<RawMoments> for ChannelMoments {
    type Error = StateError;

    fn try_from(raw: RawMoments) -> Result<Self, StateError> {
        let RawMoments { count, non_finite, sum, squares } = raw;
        let carried = |digits: &[i64]| {
            digits.split_last().is_some_and(|(last, rest)| {
                i32::try_from(*last).is_ok() && rest.iter().all(|digit| (0..=DIGIT).contains(digit))
            })
        };
        if carried(&sum) && carried(&squares) {
            Ok(Self { count, non_finite, sum, squares })
        } else {
            Err(StateError::Damaged("moments"))
        }
    }
}

/// [`ChannelMoments`] per channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moments {
    channels: Vec<ChannelMoments>,
}

impl Moments {
    /// Nothing seen of so many channels.
    pub fn new(channels: usize) -> Self {
        Self { channels: vec![ChannelMoments::new(); channels] }
    }

    /// Takes in values, where value `i` belongs to channel `(i / inner) % channels`.
    pub fn observe(&mut self, values: &[f32], inner: usize) {
        let channels = self.channels.len();
        if channels == 0 || inner == 0 {
            return;
        }
        for (index, channel) in self.channels.iter_mut().enumerate() {
            let blocks = values.chunks(channels.saturating_mul(inner));
            let runs = blocks.map(|block| {
                let start = index.saturating_mul(inner).min(block.len());
                &block[start..start.saturating_add(inner).min(block.len())]
            });
            channel.observe(runs.flatten().copied());
        }
    }

    /// Takes in what another one saw; of different numbers of channels the common ones.
    pub fn merge(&mut self, other: &Self) {
        for (own, other) in self.channels.iter_mut().zip(&other.channels) {
            own.merge(other);
        }
    }

    /// The moments of each channel.
    pub fn channels(&self) -> &[ChannelMoments] {
        &self.channels
    }

    /// The mean of each channel.
    pub fn mean(&self) -> Vec<f64> {
        self.channels.iter().map(ChannelMoments::mean).collect()
    }

    /// The biased variance of each channel.
    pub fn variance(&self) -> Vec<f64> {
        self.channels.iter().map(ChannelMoments::variance).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::{any_floats, below, normal};

    fn of(values: &[f32]) -> ChannelMoments {
        let mut moments = ChannelMoments::new();
        moments.observe(values.iter().copied());
        moments
    }

    fn samples() -> Vec<Vec<f32>> {
        vec![
            vec![],
            vec![-1e-45],
            vec![f32::MAX, f32::MAX, f32::MIN, 1e-45],
            vec![f32::NAN, f32::INFINITY, 1.0],
            normal(1, 2000),
            normal(2, 2000).iter().map(|v| v - 3.0).collect(),
            any_floats(3, 2000),
        ]
    }

    #[test]
    fn any_split_and_order_gives_the_same_state() {
        let mut state = 3;
        for mut values in samples() {
            let whole = of(&values);
            for _ in 0..5 {
                let (a, b) = values.split_at(below(&mut state, values.len() + 1));
                let mut merged = of(b);
                merged.merge(&of(a));
                assert_eq!(merged, whole);
                let turn = below(&mut state, values.len());
                values.rotate_left(turn);
                values.reverse();
                assert_eq!(of(&values), whole);
            }
            let text = serde_json::to_string(&whole).unwrap();
            assert_eq!(serde_json::from_str::<ChannelMoments>(&text).unwrap(), whole);
        }
    }

    #[test]
    fn mean_and_variance_are_the_two_pass_formulas() {
        for values in [normal(1, 3000), normal(2, 3000).iter().map(|v| v * 0.01 - 7.0).collect(), vec![5.0; 7]] {
            let n = values.len() as f64;
            let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
            let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
            let found = of(&values);
            assert!((found.mean() - mean).abs() <= 1e-13 * mean.abs().max(1.0));
            assert!((found.variance() - variance).abs() <= 1e-12 * variance);
            assert_eq!(found.count(), values.len() as u64);
        }
    }

    #[test]
    fn nothing_is_lost_to_cancellation() {
        assert_eq!(of(&[f32::MAX, 1e-45, f32::MIN]).mean(), f64::from(1e-45f32) / 3.0);
        assert_eq!(of(&[-1e-45]).mean(), -f64::from(1e-45f32));
        // Spread of one unit around 2^24.
        let around = [16_777_214.0, 16_777_215.0, 16_777_216.0];
        assert!((of(&around).variance() - 2.0 / 3.0).abs() < 1e-15);
        let largest = of(&[f32::MAX, f32::MIN]);
        assert_eq!((largest.mean(), largest.variance()), (0.0, f64::from(f32::MAX).powi(2)));
        assert_eq!((of(&[]).mean(), of(&[]).variance()), (0.0, 0.0));
        assert_eq!(of(&[f32::NAN, f32::INFINITY]).non_finite(), 2);
    }

    #[test]
    fn channels_are_those_of_the_index_formula() {
        let values = normal(4, 3 * 4 * 5 + 2);
        for (channels, inner) in [(4, 1), (4, 5), (3, 2), (9, 70)] {
            let mut moments = Moments::new(channels);
            moments.observe(&values, inner);
            for (c, found) in moments.channels().iter().enumerate() {
                let own: Vec<f32> =
                    (0..values.len()).filter(|i| i / inner % channels == c).map(|i| values[i]).collect();
                assert_eq!(*found, of(&own));
            }
            let mut twice = moments.clone();
            twice.merge(&moments);
            assert_eq!(twice.mean(), moments.mean());
            assert_eq!(twice.variance(), moments.variance());
        }
    }

    #[test]
    fn damage_is_found() {
        let mut raw = serde_json::to_value(of(&[1.0])).unwrap();
        raw["sum"][0] = (-1).into();
        assert!(serde_json::from_value::<ChannelMoments>(raw).is_err());
    }
}
