//! Bytes to text, by the rules of the web.

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

/// Bytes of a page that are searched for a declaration (WHATWG HTML, section 13.2.3.2, checked 2026-11-21).
const DECLARATION_BYTES: usize = 1024;

/// The text of `bytes`. The encoding is that of a byte order mark, else the one of the header, else the one that the
/// document declares, else UTF-8 if it is that, else windows-1252, as browsers do. What cannot be decoded becomes U+FFFD.
pub(crate) fn decode(bytes: &[u8], charset: Option<&str>) -> String {
    let named = charset.and_then(|charset| Encoding::for_label(charset.as_bytes()));
    let encoding = named.or_else(|| declared(bytes)).unwrap_or_else(|| guessed(bytes));
    // Takes a byte order mark before the encoding given.
    let (text, _, _) = encoding.decode(bytes);
    text.into_owned()
}

fn guessed(bytes: &[u8]) -> &'static Encoding {
    match std::str::from_utf8(bytes) {
        Ok(_) => UTF_8,
        // It was cut within a letter.
        Err(error) if error.error_len().is_none() => UTF_8,
        Err(_) => WINDOWS_1252,
    }
}

/// What an HTML or XML document says of itself. What can be read as ASCII is not UTF-16.
fn declared(bytes: &[u8]) -> Option<&'static Encoding> {
    let beginning: Vec<u8> = bytes[..bytes.len().min(DECLARATION_BYTES)].to_ascii_lowercase();
    let text = String::from_utf8_lossy(&beginning);
    let is_xml = text.trim_start().starts_with("<?xml");
    let label = if is_xml { after(&text, "encoding") } else { None };
    let label = label.or_else(|| text.split("<meta").skip(1).find_map(|tag| after(tag.split('>').next()?, "charset")))?;
    let encoding = Encoding::for_label(label.as_bytes())?;
    Some(if encoding.is_ascii_compatible() { encoding } else { UTF_8 })
}

/// The value after `name =`.
fn after<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let rest = &text[text.find(name)? + name.len()..];
    let value = rest.trim_start().strip_prefix('=')?.trim_start().trim_start_matches(['"', '\'']);
    let end = value.find(['"', '\'', ';', '>', ' ', '?', '/']).unwrap_or(value.len());
    (end > 0).then(|| &value[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_way_to_name_a_charset_is_understood() {
        let meta = |tag: &str, byte: &[u8]| [tag.as_bytes(), byte].concat();
        for (bytes, charset, wanted) in [
            (b"Gr\xfc\xdfe".to_vec(), Some("ISO-8859-1"), "Grüße"),
            ("Grüße".as_bytes().to_vec(), None, "Grüße"),
            ("Grüße".as_bytes().to_vec(), Some("no-such-charset"), "Grüße"),
            (b"Gr\xfc\xdfe".to_vec(), None, "Grüße"),
            (b"\xef\xbb\xbfGr\xc3\xbc\xc3\x9fe".to_vec(), Some("iso-8859-1"), "Grüße"),
            (b"\xff\xfeh\0i\0".to_vec(), None, "hi"),
            (b"\xfe\xff\0h\0i".to_vec(), None, "hi"),
            (b"\x82\xb1\x82\xf1".to_vec(), Some("shift_jis"), "こん"),
            (b"\xc4\xe3\xba\xc3".to_vec(), Some("gb2312"), "你好"),
            (b"\xcf\xf0\xe8".to_vec(), Some("windows-1251"), "При"),
            (b"\x1b$B$3$s\x1b(B".to_vec(), Some("iso-2022-jp"), "こん"),
            (b"\xbe\xc8\xb3\xe7".to_vec(), Some("euc-kr"), "안녕"),
            (b"\x80".to_vec(), Some("latin1"), "€"),
        ] {
            assert_eq!(decode(&bytes, charset), wanted, "{charset:?}");
        }
        assert!(decode(&meta("<meta charset=\"windows-1251\">", b"\xcf"), None).ends_with('П'));
        assert!(decode(&meta("<META http-equiv=x content='text/html; Charset=koi8-r'>", b"\xf0"), None).ends_with('П'));
        assert!(decode(&meta("<?xml version='1.0' encoding='ISO-8859-2'?>", b"\xb1"), None).ends_with('ą'));
        assert!(decode(&meta("<meta charset=utf-16>", "ü".as_bytes()), None).ends_with('ü'));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, charset in "[a-z0-9-]{0,12}") {
            decode(&bytes, Some(&charset));
            decode(&[b"<meta charset=", bytes.as_slice()].concat(), None);
            decode(&[b"<?xml encoding", bytes.as_slice()].concat(), None);
        }
    }
}
