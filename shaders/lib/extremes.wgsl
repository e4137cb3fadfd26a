// What the statistics kernels share: the extremes of values by their bits, and what they are of finite values, by component.
// Three comparisons a value are enough while all are finite. As signed integers the largest bits are those of the largest value, if
// any is not negative; as unsigned ones those of the smallest value, if any is negative. Where there is none of that sign, the
// smallest unsigned bits are those of the value nearest to 0. Infinities and NaN show as a largest magnitude of INFINITY_BITS or
// more; then with_value() goes through the values again, which leaves them out.

const ABS_MASK = vec4u(0x7fffffffu);
const INFINITY_BITS = vec4u(0x7f800000u);
const SIGN = vec4u(0x80000000u);
const NONE = vec4u(0u);
const ALL = vec4u(0xffffffffu);

struct Extremes {
  largest: vec4i,
  largest_bits: vec4u,
  smallest_bits: vec4u,
}
const NO_EXTREMES = Extremes(vec4i(-2147483647 - 1), NONE, ALL);

// max |x| as bits, and max and min as order keys (src/kernels/float-bits.ts)
struct FiniteExtremes {
  abs_max: vec4u,
  key_max: vec4u,
  key_min: vec4u,
}
const NO_FINITE_EXTREMES = FiniteExtremes(NONE, NONE, ALL);

fn with_bits(before: Extremes, bits: vec4u) -> Extremes {
  return Extremes(
    max(before.largest, bitcast<vec4i>(bits)),
    max(before.largest_bits, bits),
    min(before.smallest_bits, bits),
  );
}

fn order_key(bits: vec4u) -> vec4u {
  return bits ^ (bitcast<vec4u>(bitcast<vec4i>(bits) >> vec4u(31u)) | SIGN);
}

fn finite_extremes(seen: Extremes) -> FiniteExtremes {
  let largest = bitcast<vec4u>(seen.largest);
  let positive = seen.largest >= vec4i(0);
  let negative = seen.largest_bits >= SIGN;
  let any_value = positive | negative;
  return FiniteExtremes(
    max(select(NONE, largest, positive), select(NONE, seen.largest_bits & ABS_MASK, negative)),
    select(NONE, order_key(select(seen.smallest_bits, largest, positive)), any_value),
    select(ALL, order_key(select(seen.smallest_bits, seen.largest_bits, negative)), any_value),
  );
}

fn with_value(before: FiniteExtremes, bits: vec4u, finite: vec4<bool>) -> FiniteExtremes {
  let key = order_key(bits);
  return FiniteExtremes(
    max(before.abs_max, select(NONE, bits & ABS_MASK, finite)),
    max(before.key_max, select(NONE, key, finite)),
    min(before.key_min, select(ALL, key, finite)),
  );
}

fn are_zero(bits: vec4u) -> vec4u {
  return vec4u((bits & ABS_MASK) == NONE);
}

// most invocations find a larger value already there: a load is cheaper than an atomic that changes nothing
fn raise(index: u32, value: u32) {
  if (value > atomicLoad(&stats[index])) {
    atomicMax(&stats[index], value);
  }
}

fn count(index: u32, more: u32) {
  if (more != 0u) {
    atomicAdd(&stats[index], more);
  }
}
