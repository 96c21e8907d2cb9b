//! Which samples of a data set are used: the first ones, or a random subset. The order is always that of the data,
//! because files are streamed.

use super::random::Random;

/// The samples used, in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// So many from the first on.
    First(usize),
    /// These.
    Chosen(Vec<usize>),
}

impl Selection {
    /// `samples` of `total`, or all of them where that is `None` or more than there are: the first ones, or with `seed`
    /// a random subset (the same for the same three numbers, on every machine).
    pub(super) fn new(total: usize, samples: Option<usize>, seed: Option<u64>) -> Self {
        let count = samples.map_or(total, |samples| samples.min(total));
        match seed {
            Some(seed) if count < total => Self::Chosen(subset(total, count, &mut Random::new(seed))),
            _ => Self::First(count),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::First(count) => *count,
            Self::Chosen(chosen) => chosen.len(),
        }
    }

    /// The sample at this position.
    pub(super) fn get(&self, position: usize) -> Option<usize> {
        match self {
            Self::First(count) => (position < *count).then_some(position),
            Self::Chosen(chosen) => chosen.get(position).copied(),
        }
    }
}

/// The first `count` entries of a Fisher-Yates shuffle of 0..`total`, sorted.
fn subset(total: usize, count: usize, random: &mut Random) -> Vec<usize> {
    let mut all: Vec<usize> = (0..total).collect();
    for at in 0..count {
        let other = at + random.below((total - at) as u64) as usize;
        all.swap(at, other);
    }
    all.truncate(count);
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_seed_the_first_ones() {
        assert_eq!(Selection::new(10, Some(3), None), Selection::First(3));
        assert_eq!(Selection::new(10, Some(30), None), Selection::First(10));
        assert_eq!(Selection::new(10, None, Some(1)), Selection::First(10));
    }

    #[test]
    fn a_seed_chooses_evenly_and_reproducibly() {
        let mut hits = [0; 10];
        for seed in 0..1000 {
            let selection = Selection::new(10, Some(3), Some(seed));
            assert_eq!(selection, Selection::new(10, Some(3), Some(seed)));
            let chosen: Vec<usize> = (0..4).map_while(|at| selection.get(at)).collect();
            assert!(chosen.len() == 3 && chosen.is_sorted_by(|a, b| a < b));
            for at in chosen {
                hits[at] += 1;
            }
        }
        assert!(hits.iter().all(|n| (240..360).contains(n)), "{hits:?}");
    }
}
