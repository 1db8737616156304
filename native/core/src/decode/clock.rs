//! The local time of a packet: `qfilter/engine/clock.py`.

use jiff::Timestamp;
use jiff::tz::TimeZone;

const DAY: i64 = 86_400;
/// The years that Python's datetime has, 1 to 9999, in seconds since the epoch.
const YEARS: std::ops::Range<i64> = -62_135_596_800..253_402_300_800;

/// What time it is for packets without a timestamp, and where.
#[derive(Clone, Copy, Debug)]
pub struct Clock<'z> {
    /// Seconds since the epoch.
    pub wall: f64,
    /// Whose hours and weekdays count.
    pub zone: &'z TimeZone,
}

impl Clock<'_> {
    /// The hour of the day, and the day of the week with Sunday as 0, of seconds since the epoch; None when these are
    /// no time in the years 1 to 9999.
    pub(super) fn local(&self, timestamp: f64) -> Option<(u8, u8)> {
        let seconds = whole_seconds(timestamp)?;
        let local = seconds + self.offset(seconds)?;
        let hour = local.rem_euclid(DAY) / 3600;
        let weekday = (local.div_euclid(DAY) + 4).rem_euclid(7); // the epoch was a Thursday
        let now = (u8::try_from(hour).ok()?, u8::try_from(weekday).ok()?);
        YEARS.contains(&local).then_some(now)
    }

    /// Seconds east of Greenwich. Jiff's times end 26 hours before Python's, where no zone changes its offset.
    fn offset(&self, seconds: i64) -> Option<i64> {
        let instant = Timestamp::from_second(seconds.min(Timestamp::MAX.as_second())).ok()?;
        Some(self.zone.to_offset(instant).seconds().into())
    }
}

/// Python's `datetime.fromtimestamp` rounds to microseconds, half to even, before it looks at the seconds.
fn whole_seconds(timestamp: f64) -> Option<i64> {
    let micros = (timestamp.fract() * 1e6).round_ties_even();
    let carry = if micros >= 1e6 { 1 } else { -i64::from(micros < 0.0) };
    // A float that is not finite or too large ends at the limits of i64, which are outside of the years; NaN as 0.
    let seconds = (timestamp.trunc() as i64).checked_add(carry)?;
    (YEARS.contains(&seconds) && !timestamp.is_nan()).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use jiff::tz::Offset;

    use super::*;

    #[test]
    fn hours_and_weekdays_are_those_of_python() {
        // Written down from datetime.fromtimestamp(timestamp, timezone(timedelta(hours=east))).
        let rows = [
            (0, 0.0, Some((0, 4))),
            (0, 1_700_000_000.0, Some((22, 2))),
            (2, 1_700_000_000.0, Some((0, 3))),
            (-11, 0.0, Some((13, 3))),
            (0, 3_599.999_999_4, Some((0, 4))),
            (0, 3_599.999_999_6, Some((1, 4))),
            (0, -0.000_000_4, Some((0, 4))),
            (0, -0.000_000_6, Some((23, 3))),
            (0, -62_135_596_800.0, Some((0, 1))),
            (0, -62_135_596_801.0, None),
            (-1, -62_135_596_800.0, None),
            (0, 253_402_300_799.0, Some((23, 5))),
            (1, 253_402_300_799.0, None),
            (0, 253_402_300_800.0, None),
            (0, 1e300, None),
            (0, f64::INFINITY, None),
            (0, f64::NEG_INFINITY, None),
            (0, f64::NAN, None),
        ];
        for (east, timestamp, expected) in rows {
            let zone = TimeZone::fixed(Offset::constant(east));
            assert_eq!(
                Clock { wall: 0.0, zone: &zone }.local(timestamp),
                expected,
                "{timestamp} at {east}"
            );
        }
    }
}
