//! Lines of equal value on a grid, as shapes to fill and lines to draw.

use contour::ContourBuilder;

pub(super) struct Contour {
    pub threshold: f64,
    /// The borders of all areas where values are at least the threshold, and of the holes in them.
    pub rings: Vec<Vec<(f64, f64)>>,
    /// The lines where values are the threshold, without parts that only follow the border of the grid.
    pub lines: Vec<Vec<(f64, f64)>>,
}

/// Returns the contours of `values` on the grid of `x` and `y` (row after row), by linear interpolation.
pub(super) fn contours(x: &[f64], y: &[f64], values: &[f64], thresholds: &[f64]) -> Vec<Contour> {
    let found = ContourBuilder::new(x.len(), y.len(), true).contours(values, thresholds);
    let found = found.expect("as many values as the grid has");
    // The library's grid has its points in the middle of squares, whose outer halves do not belong to it.
    let on_axis = |axis: &[f64], place: f64| {
        let place = (place - 0.5).clamp(0.0, (axis.len() - 1) as f64);
        let below = (place as usize).min(axis.len() - 2);
        axis[below] + (place - below as f64) * (axis[below + 1] - axis[below])
    };
    let on_grid = |point: &contour::Pt| (on_axis(x, point.x), on_axis(y, point.y));
    let contour = |contour: &contour::Contour| {
        let rings = contour.geometry().iter().flat_map(|area| std::iter::once(area.exterior()).chain(area.interiors()));
        let rings: Vec<Vec<(f64, f64)>> = rings.map(|ring| ring.0.iter().map(on_grid).collect()).collect();
        let lines = rings.iter().flat_map(|ring| inside(ring, x, y)).collect();
        Contour { threshold: contour.threshold(), rings, lines }
    };
    found.iter().map(contour).collect()
}

/// Returns the parts of a ring that are not on the border of the grid.
fn inside(ring: &[(f64, f64)], x: &[f64], y: &[f64]) -> Vec<Vec<(f64, f64)>> {
    let sides = |(px, py): (f64, f64)| [px == x[0], px == x[x.len() - 1], py == y[0], py == y[y.len() - 1]];
    let is_border = |a, b| sides(a).iter().zip(sides(b)).any(|(a, b)| *a && b);
    let mut parts: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut broken = true;
    for pair in ring.windows(2) {
        if is_border(pair[0], pair[1]) {
            broken = true;
            continue;
        }
        match parts.last_mut().filter(|_| !broken) {
            Some(part) => part.push(pair[1]),
            None => parts.push(pair.to_vec()),
        }
        broken = false;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (x² + y²) over [−2, 2] and [−1, 1].
    fn bowl() -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let x: Vec<f64> = (0..=40).map(|step| f64::from(step) / 10.0 - 2.0).collect();
        let y: Vec<f64> = (0..=40).map(|step| f64::from(step) / 20.0 - 1.0).collect();
        let values = y.iter().flat_map(|y| x.iter().map(move |x| x * x + y * y)).collect();
        (x, y, values)
    }

    #[test]
    fn bowl_has_circles() {
        let (x, y, values) = bowl();
        let contour = &contours(&x, &y, &values, &[0.49])[0];
        assert_eq!(contour.lines.len(), 1);
        for (x, y) in &contour.lines[0] {
            assert!((x.hypot(*y) - 0.7).abs() < 0.01, "{x} {y}");
        }
        let [first, last] = [contour.lines[0].first(), contour.lines[0].last()];
        assert_eq!(first, last, "a closed line");
        // All but the disc: the rectangle's 8 minus π · 0.49.
        let pairs = contour.rings.iter().flat_map(|ring| ring.windows(2));
        let twice: f64 = pairs.map(|pair| pair[0].0 * pair[1].1 - pair[0].1 * pair[1].0).sum();
        assert!((twice.abs() / 2.0 - (8.0 - 0.49 * std::f64::consts::PI)).abs() < 0.02, "{twice}");
    }

    #[test]
    fn lines_end_at_the_border() {
        let (x, y, values) = bowl();
        // A circle of radius 1.5 is cut by both long sides.
        let contour = &contours(&x, &y, &values, &[2.25])[0];
        assert_eq!(contour.lines.len(), 2);
        for line in &contour.lines {
            for end in [line[0], line[line.len() - 1]] {
                assert!(end.1.abs() > 0.999 && (end.0.abs() - 1.25_f64.sqrt()).abs() < 0.05, "{end:?}");
            }
        }
    }
}
