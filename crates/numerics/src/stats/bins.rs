//! Bins of any histogram, and what can be read off them: quantiles. Knows no grid.

use crate::range::Range;

/// One bin of a histogram: `[lower, lower + width)` holds `count` values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// The lower edge.
    pub lower: f64,
    /// The width.
    pub width: f64,
    /// How many values fell into it.
    pub count: u64,
}

/// A non-empty stretch of values, taken as evenly spread over `[low, high]`; a point where both are equal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cell {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) count: u64,
}

impl Cell {
    /// The part of a bin that lies in `range`, outside of which nothing was seen.
    pub(crate) fn within(bin: Bin, range: Range) -> Self {
        let (min, max) = (f64::from(range.min()), f64::from(range.max()));
        Self { low: bin.lower.clamp(min, max), high: (bin.lower + bin.width).clamp(min, max), count: bin.count }
    }

    /// Where the value of a rank inside the cell lies: ranks are spread evenly, half a rank from the edges.
    fn value_at(&self, rank: u64) -> f64 {
        self.low + (self.high - self.low) * ((rank as f64 + 0.5) / self.count as f64)
    }
}

/// The quantile `p` of `count` values that lie in ascending `cells`, linear between ranks as numpy's default; the
/// first and the last rank are the ends of `range`. `p` is clamped to 0..=1.
pub(crate) fn quantile(cells: &(impl Iterator<Item = Cell> + Clone), count: u64, range: Range, p: f64) -> f32 {
    if count == 0 {
        return 0.0;
    }
    let position = p.clamp(0.0, 1.0) * (count - 1) as f64;
    let (below, part) = (position.floor(), position.fract());
    let below = below as u64;
    let at = |rank: u64| {
        if rank == 0 {
            return f64::from(range.min());
        }
        if rank >= count - 1 {
            return f64::from(range.max());
        }
        let mut before = 0;
        for cell in cells.clone() {
            if rank < before + cell.count {
                return cell.value_at(rank - before);
            }
            before += cell.count;
        }
        f64::from(range.max())
    };
    let low = at(below);
    let value = if part == 0.0 { low } else { low + (at(below + 1) - low) * part };
    (value as f32).clamp(range.min(), range.max())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_spread_evenly_inside_of_a_cell() {
        let range = Range::new(0.0, 4.0).unwrap();
        let cells = [Cell { low: 0.0, high: 1.0, count: 2 }, Cell { low: 3.0, high: 4.0, count: 3 }];
        let at = |p| quantile(&cells.iter().copied(), 5, range, p);
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(at), [0.0, 0.75, 3.0 + 1.0 / 6.0, 4.0]);
        assert_eq!(at(0.125), 0.375);
        assert_eq!([at(-1.0), at(2.0)], [0.0, 4.0]);
        assert_eq!(quantile(&std::iter::empty(), 0, range, 0.5), 0.0);
    }

    #[test]
    fn cells_end_where_values_end() {
        let range = Range::new(0.25, 0.5).unwrap();
        let cell = Cell::within(Bin { lower: 0.0, width: 1.0, count: 3 }, range);
        assert_eq!((cell.low, cell.high), (0.25, 0.5));
    }
}
