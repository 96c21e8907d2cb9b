//! What all small floats share: magnitudes in sign, exponent, mantissa order, where codes ascend with values.
//! Knows no special values.

/// The magnitudes of a small float: exponent bits above `mantissa` bits.
pub(super) struct MiniFloat {
    /// Mantissa bits.
    pub(super) mantissa: u32,
    /// Exponent bias.
    pub(super) bias: i32,
    /// The code of the largest finite magnitude.
    pub(super) max_code: u8,
}

impl MiniFloat {
    /// The code nearest to a magnitude, ties to the even code, saturated. NaN gives the largest.
    pub(super) fn encode(&self, magnitude: f32) -> u8 {
        if magnitude.is_nan() || magnitude >= self.decode(self.max_code) {
            return self.max_code;
        }
        let lowest = 1 - self.bias;
        // Float exponents of f32, subnormal values counted as the smallest normal ones: far below `lowest`.
        let exponent = ((magnitude.to_bits() >> 23) as i32 - 127).max(lowest);
        let steps = f64::from(magnitude) * 2f64.powi(self.mantissa as i32 - exponent);
        // Rounding up to the next octave carries into the exponent, as it should.
        let code = ((exponent - lowest) << self.mantissa) + steps.round_ties_even() as i32;
        code.min(self.max_code.into()) as u8
    }

    /// The magnitude of a code without sign, by the general formula.
    pub(super) fn decode(&self, code: u8) -> f32 {
        let exponent = i32::from(code >> self.mantissa);
        let mantissa = i32::from(code) & ((1 << self.mantissa) - 1);
        let hidden = if exponent == 0 { 0 } else { 1 << self.mantissa };
        (f64::from(hidden + mantissa) * 2f64.powi(exponent.max(1) - self.bias - self.mantissa as i32)) as f32
    }
}
