//! Numbers of bytes as people write them.

/// `65536`, `64KiB`, `64K`, `1.5` is refused; units are KiB, MiB and GiB, of 1024.
pub(crate) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units_of_1024() {
        assert_eq!(
            [size("65536"), size("64KiB"), size("1 M"), size("2g")],
            [Some(65_536), Some(65_536), Some(1 << 20), Some(2 << 30)]
        );
        assert_eq!([size(""), size("KiB"), size("1.5M"), size("64KB"), size("99999999999G")], [None; 5]);
    }
}
