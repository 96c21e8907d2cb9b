//! Random numbers that are the same on every machine: SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom
//! number generators, OOPSLA 2014, figure 12) and integer arithmetic on its output. No function of the platform's
//! mathematical library is used.

/// SplitMix64: a counter stepped by the golden ratio, then mixed.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// A generator that any number may seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator for one thing among many: its name and number set it apart from all others.
    pub(super) fn named(name: &str, number: usize) -> Self {
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        let mut mixed = Self(hash ^ (number as u64).wrapping_mul(0xd6e8_feb8_6659_fd93));
        Self(mixed.next())
    }

    /// 64 random bits.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in 0..`bound`, or 0 where that is empty.
    ///
    /// The high half of a 128-bit product: biased by less than `bound` / 2^64, which no data set shows.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in [0, 1), a multiple of 2^-53.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A nearly normal number of mean 0 and variance 1: the sum of twelve uniform ones, within ±6.
    pub(super) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sequence() {
        // Seed 1234567, as in the reference program of Rosetta Code and Vigna's splitmix64.c.
        let mut random = Random::new(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([random.next(), random.next(), random.next()], expected);
    }

    #[test]
    fn moments_and_bounds() {
        let mut random = Random::new(1);
        let n = 20_000;
        let normal: Vec<f64> = (0..n).map(|_| random.normal()).collect();
        let mean = normal.iter().sum::<f64>() / f64::from(n);
        let variance = normal.iter().map(|x| x * x).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        let mut seen = [0; 7];
        (0..7000).for_each(|_| seen[random.below(7) as usize] += 1);
        assert!(seen.iter().all(|&n| (800..1200).contains(&n)), "{seen:?}");
        assert_eq!(random.below(0), 0);
        assert_ne!(Random::named("a", 0).next(), Random::named("a", 1).next());
        assert_ne!(Random::named("a", 0).next(), Random::named("b", 0).next());
    }
}
