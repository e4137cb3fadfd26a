// f32(1 / scale), correctly rounded, for a normal scale whose reciprocal is normal: the quotient of 2^47 by the significand
// from an approximate division, corrected by its exact remainder (which fits 32 bits although the product does not)
fn reciprocal(scale: f32) -> f32 {
  let bits = bitcast<u32>(scale);
  let exponent = (bits >> 23u) & 255u;
  let significand = (bits & 0x7fffffu) | 0x800000u;
  let approximate = 1.0 / bitcast<f32>(0x3f800000u | (bits & 0x7fffffu));
  // approximate * 2^24, read off its bits: steps of 1 around (0.5, 1]
  var quotient = bitcast<u32>(approximate) - 0x3e800000u;
  var rest = bitcast<i32>(0u - quotient * significand);
  let divisor = bitcast<i32>(significand);
  // nearly always one step corrects it
  let below = rest < 0;
  quotient -= u32(below);
  rest += select(0, divisor, below);
  if (rest < 0 || rest >= divisor) {
    for (var i = 0u; i < 3u; i++) {
      let down = rest < 0;
      quotient -= u32(down);
      rest += select(0, divisor, down);
    }
    for (var i = 0u; i < 4u; i++) {
      let up = rest >= divisor;
      quotient += u32(up);
      rest -= select(0, divisor, up);
    }
  }
  quotient += u32(rest * 2 > divisor);
  let power_of_two = significand == 0x800000u;
  let result = select(((253u - exponent) << 23u) | (quotient & 0x7fffffu), (254u - exponent) << 23u, power_of_two);
  return bitcast<f32>((bits & 0x80000000u) | result);
}
