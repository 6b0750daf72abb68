//! How far a word is from another: to say what somebody may have meant.

/// Letters of a word that are looked at.
const MAX_LETTERS: usize = 64;

/// How many letters must be added, dropped, changed or swapped with their neighbour to make one
/// word of the other (optimal string alignment); of long words only the first 64 letters count.
pub fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(MAX_LETTERS).collect();
    let b: Vec<char> = b.chars().take(MAX_LETTERS).collect();
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_pen_are_counted() {
        for (a, b, apart) in [
            ("", "", 0),
            ("web", "", 3),
            ("web-1", "web-1", 0),
            ("wbe-1", "web-1", 1),
            ("ab", "xy", 2),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (apart, apart), "{a} {b}");
        }
    }
}
