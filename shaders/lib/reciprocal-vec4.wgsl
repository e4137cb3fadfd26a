// reciprocal.wgsl for four scales at once: f32(1 / scale), correctly rounded.

fn reciprocal(scale: vec4f) -> vec4f {
  let bits = bitcast<vec4u>(scale);
  let exponent = (bits >> vec4u(23u)) & vec4u(255u);
  let significand = (bits & vec4u(0x7fffffu)) | vec4u(0x800000u);
  let approximate = vec4f(1.0) / bitcast<vec4f>(vec4u(0x3f800000u) | (bits & vec4u(0x7fffffu)));
  var quotient = bitcast<vec4u>(approximate) - vec4u(0x3e800000u);
  var rest = bitcast<vec4i>(vec4u(0u) - quotient * significand);
  let divisor = bitcast<vec4i>(significand);
  for (var i = 0u; i < 4u; i++) {
    let down = rest < vec4i(0);
    quotient -= vec4u(down);
    rest += select(vec4i(0), divisor, down);
  }
  for (var i = 0u; i < 4u; i++) {
    let up = rest >= divisor;
    quotient += vec4u(up);
    rest -= select(vec4i(0), divisor, up);
  }
  quotient += vec4u(rest * 2 > divisor);
  let power_of_two = significand == vec4u(0x800000u);
  let fraction = ((vec4u(253u) - exponent) << vec4u(23u)) | (quotient & vec4u(0x7fffffu));
  let result = select(fraction, (vec4u(254u) - exponent) << vec4u(23u), power_of_two);
  return bitcast<vec4f>((bits & vec4u(0x80000000u)) | result);
}
