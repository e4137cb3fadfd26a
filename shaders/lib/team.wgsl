// What the kernels share that work in teams of 8 neighbouring lanes of a subgroup: extremes over the team, component by component.

fn max_of_team_i(v: vec4i) -> vec4i {
  var m = max(v, subgroupShuffleXor(v, 1u));
  m = max(m, subgroupShuffleXor(m, 2u));
  return max(m, subgroupShuffleXor(m, 4u));
}

fn max_of_team_u(v: vec4u) -> vec4u {
  var m = max(v, subgroupShuffleXor(v, 1u));
  m = max(m, subgroupShuffleXor(m, 2u));
  return max(m, subgroupShuffleXor(m, 4u));
}

fn min_of_team(v: vec4u) -> vec4u {
  var m = min(v, subgroupShuffleXor(v, 1u));
  m = min(m, subgroupShuffleXor(m, 2u));
  return min(m, subgroupShuffleXor(m, 4u));
}

// NaN and infinities as 0
fn finite(bits: vec4u) -> vec4u {
  return select(bits, vec4u(0u), (bits & vec4u(0x7fffffffu)) >= vec4u(0x7f800000u));
}

fn non_finite(bits: vec4u) -> u32 {
  let is = vec4u((bits & vec4u(0x7fffffffu)) >= vec4u(0x7f800000u));
  return is.x + is.y + is.z + is.w;
}

// f32(1 / scale), correctly rounded as in reciprocal.wgsl; nearly always one step corrects the quotient
fn reciprocal(scale: f32) -> f32 {
  let bits = bitcast<u32>(scale);
  let exponent = (bits >> 23u) & 255u;
  let significand = (bits & 0x7fffffu) | 0x800000u;
  let approximate = 1.0 / bitcast<f32>(0x3f800000u | (bits & 0x7fffffu));
  var quotient = bitcast<u32>(approximate) - 0x3e800000u;
  var rest = bitcast<i32>(0u - quotient * significand);
  let divisor = bitcast<i32>(significand);
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
