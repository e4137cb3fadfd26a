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
