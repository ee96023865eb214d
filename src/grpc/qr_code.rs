//! QR codes of what an authenticator app is to read off a screen.

use std::fmt::Write as _;

use fast_qr::{ECL, QRBuilder, QRCode};

use crate::{domain::secret::SecretString, service::ServiceError};

/// How a QR code is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Svg,
    Png,
}

/// The empty modules around a code without which readers do not find it (ISO/IEC 18004).
const QUIET: usize = 4;
/// The width of a module in pixels, so that a code can be read off a screen of any density.
const SCALE: usize = 8;

/// Draws `text` as an image in the format.
pub(super) fn draw(text: &SecretString, format: Format) -> Result<Vec<u8>, ServiceError> {
    // A screen has no dirt or scratches that a code would have to be read in spite of, and a small one is read from further away.
    let code = QRBuilder::new(text.expose())
        .ecl(ECL::L)
        .build()
        .map_err(|_| ServiceError::internal("the enrolment does not fit into a QR code"))?;
    match format {
        Format::Svg => Ok(svg(&code).into_bytes()),
        Format::Png => png(&code).map_err(ServiceError::internal),
    }
}

/// One path, a rectangle for each run of dark modules in a row.
fn svg(code: &QRCode) -> String {
    let width = code.size + 2 * QUIET;
    let mut path = String::new();
    for y in 0..code.size {
        let mut x = 0;
        while x < code.size {
            let run = code[y][x..].iter().take_while(|module| module.value()).count();
            if run > 0 {
                // Writing to a String cannot fail.
                let _ = write!(path, "M{} {}h{run}v1h-{run}z", x + QUIET, y + QUIET);
            }
            x += run.max(1);
        }
    }
    let pixels = width * SCALE;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{pixels}\" height=\"{pixels}\" viewBox=\"0 0 {width} {width}\" \
         shape-rendering=\"crispEdges\"><path fill=\"#fff\" d=\"M0 0h{width}v{width}H0z\"/><path fill=\"#000\" d=\"{path}\"/></svg>"
    )
}

/// One bit for each pixel, 1 for white.
fn png(code: &QRCode) -> Result<Vec<u8>, png::EncodingError> {
    let modules = code.size + 2 * QUIET;
    let is_dark = |x: usize, y: usize| {
        let inside = QUIET..QUIET + code.size;
        inside.contains(&x) && inside.contains(&y) && code[y - QUIET][x - QUIET].value()
    };
    let mut pixels = Vec::with_capacity(modules * modules * SCALE);
    for y in 0..modules {
        // A module is eight pixels wide: a byte.
        let line: Vec<u8> = (0..modules).map(|x| if is_dark(x, y) { 0 } else { u8::MAX }).collect();
        for _ in 0..SCALE {
            pixels.extend_from_slice(&line);
        }
    }
    let side = u32::try_from(modules * SCALE).unwrap_or(u32::MAX);
    let mut image = Vec::new();
    let mut encoder = png::Encoder::new(&mut image, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_enrolment_that_there_can_be_fits() {
        // 64 characters of four bytes as the issuer, 254 bytes as the account, every byte percent-encoded.
        let (issuer, account) = ("%F0%9F%8E%81".repeat(64), "%C3%A4".repeat(127));
        let secret = "A".repeat(32);
        let text = SecretString::new(format!(
            "otpauth://totp/{issuer}:{account}?secret={secret}&issuer={issuer}&algorithm=SHA1&digits=6&period=30"
        ));
        for format in [Format::Svg, Format::Png] {
            assert!(draw(&text, format).is_ok());
        }
        assert!(draw(&SecretString::new("x".repeat(3_000)), Format::Svg).is_err(), "more than any QR code holds");
    }
}
