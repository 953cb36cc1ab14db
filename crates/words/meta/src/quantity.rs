//! Resource quantities: `100m`, `1.5Gi`, `2e3`.
//!
//! Rules of apimachinery `pkg/api/resource`: a number, a suffix of one of three families, exact to
//! a billionth (rounded up), printed in the family it was written in with the largest suffix that
//! leaves no fraction.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

const NANO: i128 = 1_000_000_000;

/// How a quantity is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `k`, `M`, `G` … and `m`, `u`, `n`.
    #[default]
    DecimalSi,
    /// `Ki`, `Mi`, `Gi` …
    BinarySi,
    /// `e3`, `E6`.
    DecimalExponent,
}

/// An amount, exact to a billionth.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

/// Upstream's message for text that is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
pub struct QuantityError;

const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

impl Quantity {
    /// A whole number of units.
    pub fn from_units(units: i64) -> Self {
        Self { nano: i128::from(units) * NANO, format: Format::DecimalSi }
    }

    /// A whole number of thousandths.
    pub fn from_milli(milli: i64) -> Self {
        Self { nano: i128::from(milli) * (NANO / 1000), format: Format::DecimalSi }
    }

    /// A whole number of bytes, printed with binary suffixes.
    pub fn from_bytes(bytes: i64) -> Self {
        Self { nano: i128::from(bytes) * NANO, format: Format::BinarySi }
    }

    /// Units, rounded up (away from zero), saturating.
    pub fn value(&self) -> i64 {
        saturate(round_up(self.nano, NANO))
    }

    /// Thousandths, rounded up (away from zero), saturating.
    pub fn milli(&self) -> i64 {
        saturate(round_up(self.nano, NANO / 1000))
    }

    /// Is it exactly zero?
    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.nano.signum() as i32
    }

    /// The amount as a floating point number.
    pub fn as_f64(&self) -> f64 {
        self.nano as f64 / NANO as f64
    }

    /// How it is written.
    pub fn format(&self) -> Format {
        self.format
    }
}

fn saturate(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
}

fn round_up(number: i128, unit: i128) -> i128 {
    let whole = number / unit;
    whole + if number % unit == 0 { 0 } else { number.signum() }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || fraction.contains('.') {
            return Err(QuantityError);
        }
        let (scale, format) = read_suffix(suffix)?;
        let nano = scaled(whole, fraction, scale);
        Ok(Self { nano: if negative { -nano } else { nano }, format })
    }
}

enum Scale {
    Ten(i32),
    Two(u32),
}

fn read_suffix(suffix: &str) -> Result<(Scale, Format), QuantityError> {
    if let Some((_, power)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Ok((Scale::Two(*power), Format::BinarySi));
    }
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Ok((Scale::Ten(*power), Format::DecimalSi));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError)?;
    let power: i32 = exponent.parse().map_err(|_| QuantityError)?;
    Ok((Scale::Ten(power.clamp(-60, 60)), Format::DecimalExponent))
}

/// `whole.fraction` times the scale in billionths, rounded up, capped well below overflow.
fn scaled(whole: &str, fraction: &str, scale: Scale) -> i128 {
    const CAP: i128 = i64::MAX as i128 * NANO;
    let mut digits: i128 = 0;
    let mut places: i32 = 0;
    for (position, digit) in whole.bytes().chain(fraction.bytes()).enumerate() {
        if digits > CAP / 100 {
            // Digits beyond the precision: of a whole number they still count as magnitude.
            if position < whole.len() {
                places -= 1;
            }
            continue;
        }
        digits = digits * 10 + i128::from(digit - b'0');
        if position >= whole.len() {
            places += 1;
        }
    }
    let (factor, power) = match scale {
        Scale::Ten(power) => (1, power + 9 - places),
        Scale::Two(bits) => (1i128 << bits, 9 - places),
    };
    let mut result = digits.checked_mul(factor).unwrap_or(CAP);
    for _ in 0..power.max(0) {
        result = result.checked_mul(10).unwrap_or(CAP).min(CAP);
    }
    for step in 0..(-power).max(0) {
        if result == 0 {
            break;
        }
        // Only the last division rounds up, so that rounding happens once.
        let last = step == -power - 1;
        result = if last || result % 10 != 0 { round_up(result, 10) } else { result / 10 };
    }
    result.min(CAP)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let sign = if self.nano < 0 { "-" } else { "" };
        let amount = self.nano.abs();
        if self.format == Format::BinarySi && amount % NANO == 0 && amount / NANO >= 1024 {
            let units = amount / NANO;
            let power = BINARY.iter().rev().find(|(_, bits)| units % (1i128 << bits) == 0);
            return match power {
                Some((name, bits)) => write!(f, "{sign}{}{name}", units >> bits),
                None => write!(f, "{sign}{units}"),
            };
        }
        let mut exponent = -9;
        let mut mantissa = amount;
        while mantissa % 1000 == 0 && exponent < 18 {
            mantissa /= 1000;
            exponent += 3;
        }
        match self.format {
            Format::DecimalExponent if exponent != 0 => write!(f, "{sign}{mantissa}e{exponent}"),
            _ => {
                let suffix =
                    DECIMAL.iter().find(|(_, power)| *power == exponent).map_or("", |(name, _)| name);
                write!(f, "{sign}{mantissa}{suffix}")
            }
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl Add for Quantity {
    type Output = Self;

    /// The sum, in the format of the first that is not zero.
    fn add(self, other: Self) -> Self {
        let format = if self.nano == 0 { other.format } else { self.format };
        Self { nano: self.nano + other.nano, format }
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Neg for Quantity {
    type Output = Self;

    fn neg(self) -> Self {
        Self { nano: -self.nano, format: self.format }
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn canonical_text() {
        for (text, canonical) in [
            ("0", "0"),
            ("100m", "100m"),
            ("0.1", "100m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("1.5", "1500m"),
            ("1024Ki", "1Mi"),
            ("1.5Gi", "1536Mi"),
            ("1Gi", "1Gi"),
            ("512", "512"),
            ("1000", "1k"),
            ("1e3", "1e3"),
            ("1E", "1E"),
            ("100Ki", "100Ki"),
            ("-5", "-5"),
            ("0.5Ki", "512"),
            ("0.1n", "1n"),
            ("1000000", "1M"),
        ] {
            assert_eq!(read(text).to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn amounts() {
        for (text, milli, value) in [
            ("100m", 100, 1),
            ("2", 2000, 2),
            ("1Ki", 1_024_000, 1024),
            ("1.0001", 1001, 2),
            ("1e2", 100_000, 100),
        ] {
            assert_eq!((read(text).milli(), read(text).value()), (milli, value), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_quantity() {
        for text in ["", "abc", "1.2.3", "1Kib", "1 Gi", "--1", ".", "1ee3"] {
            assert_eq!(text.parse::<Quantity>(), Err(QuantityError), "{text}");
        }
    }

    #[test]
    fn arithmetic_keeps_order_and_format() {
        assert!(read("1Gi") > read("1G"));
        assert_eq!((read("1Gi") - read("512Mi")).to_string(), "512Mi");
        assert_eq!((Quantity::default() + read("1Mi")).to_string(), "1Mi");
    }

    #[test]
    fn huge_numbers_saturate() {
        assert_eq!(read("99999999999999999999999999E").value(), i64::MAX);
        assert_eq!(read("1e60").value(), i64::MAX);
    }
}
