//! One field of a cron expression: lists, ranges and steps of whole numbers or names.

/// What may stand in a field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// What people call it.
    pub name: &'static str,
    /// The least value.
    pub first: u16,
    /// The greatest value.
    pub last: u16,
    /// Names of values, from the least one on.
    pub names: &'static [&'static str],
    /// What may be written, for errors.
    pub allowed: &'static str,
    /// Whether `5/10` is `5-last/10`. Without that it is refused: crons differ in what it means.
    pub open_steps: bool,
}

/// Why a field does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Neither number nor name.
    #[error("'{0}' is no number or name of it")]
    Unknown(String),
    /// Too small or too large.
    #[error("{0} is out of range")]
    OutOfRange(u64),
    /// A range that ends before it begins.
    #[error("'{0}' ends before it begins: write it as two ranges with a comma")]
    Backwards(String),
    /// A step of nothing.
    #[error("a step must be a whole number from 1 on")]
    Step,
    /// `5/10`.
    #[error("'{0}' may mean different things: write the range, such as 5-59/10")]
    BareStep(String),
    /// Nothing between commas.
    #[error("something is missing")]
    Empty,
    /// More than one `#`.
    #[error("'#' must stand alone in its field")]
    Crowded,
    /// Both days, or neither.
    #[error("exactly one of day of month and day of week must be '?'")]
    Days,
}

/// Values of a field: up to 256 of them, from [`Field::first`] on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Values {
    first: u16,
    bits: [u64; 4],
}

impl Values {
    fn none(field: &Field) -> Values {
        Values { first: field.first, bits: [0; 4] }
    }

    /// All of a field.
    pub fn all(field: &Field) -> Values {
        let mut values = Values::none(field);
        (field.first..=field.last).for_each(|value| values.insert(value));
        values
    }

    /// Adds a value of the field.
    pub fn insert(&mut self, value: u16) {
        let at = usize::from(value - self.first);
        self.bits[at / 64] |= 1 << (at % 64);
    }

    /// Whether it is among them.
    pub fn contains(&self, value: u16) -> bool {
        let Some(at) = value.checked_sub(self.first).map(usize::from) else { return false };
        self.bits.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// The least that is not below `value`.
    pub fn at_or_above(&self, value: u16) -> Option<u16> {
        (value.max(self.first)..self.first + 256).find(|value| self.contains(*value))
    }

    /// Those that follow each other, as first and last of each stretch.
    pub fn stretches(&self) -> Vec<(u16, u16)> {
        let mut stretches: Vec<(u16, u16)> = Vec::new();
        let mut next = self.at_or_above(0);
        while let Some(value) = next {
            match stretches.last_mut() {
                Some((_, last)) if *last + 1 == value => *last = value,
                _ => stretches.push((value, value)),
            }
            next = self.at_or_above(value + 1);
        }
        stretches
    }

    /// How many.
    pub fn count(&self) -> u32 {
        self.bits.iter().map(|word| word.count_ones()).sum()
    }
}

impl Field {
    /// Reads a list: `*`, `5`, `1-5`, `*/10`, `0-30/5`, `MON-FRI`, and those with commas between.
    pub fn list(&self, text: &str) -> Result<Values, Fault> {
        let mut values = Values::none(self);
        for part in text.split(',') {
            self.part(part, &mut values)?;
        }
        Ok(values)
    }

    /// Reads one part of a list.
    pub fn part(&self, part: &str, values: &mut Values) -> Result<(), Fault> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (self.first, self.last),
            Some((from, to)) => (self.value(from)?, self.value(to)?),
            None if step.is_none() => (self.value(range)?, self.value(range)?),
            None if self.open_steps => (self.value(range)?, self.last),
            None => return Err(Fault::BareStep(part.to_owned())),
        };
        if to < from {
            return Err(Fault::Backwards(range.to_owned()));
        }
        let step: u16 = step.map_or(Some(1), |step| step.parse().ok()).ok_or(Fault::Step)?;
        if step == 0 {
            return Err(Fault::Step);
        }
        (from..=to).step_by(usize::from(step)).for_each(|value| values.insert(value));
        Ok(())
    }

    /// Reads one number or name.
    pub fn value(&self, text: &str) -> Result<u16, Fault> {
        if text.is_empty() {
            return Err(Fault::Empty);
        }
        if let Some(at) = self.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            return Ok(self.first + at as u16);
        }
        let unknown = || Fault::Unknown(text.to_owned());
        let number: u64 = Some(text)
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse().ok())
            .ok_or_else(unknown)?;
        match u16::try_from(number) {
            Ok(value) if (self.first..=self.last).contains(&value) => Ok(value),
            _ => Err(Fault::OutOfRange(number)),
        }
    }
}
