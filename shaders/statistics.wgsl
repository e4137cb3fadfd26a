// Fused statistics of the segments of a chunk, by slot: max |x|, max and min (as order keys), zeros, non-finite count.
// values: f32 as bits; segments: [start, length, slot, aux]; stats: 8 words a slot, merged by atomics;
// moments: [sum, sum of squares] of each invocation, information only; params last.
// An invocation takes vec4s lane, lane + lanes, ... of its segment. A segment may start at any element: elements of the
// first and last vec4 that are not its own are turned into NaN, which counts nowhere but in the non-finite count.
// Logic on bits only: NaN tests and float max are not dependable across adapters.

struct Params { segment_count: u32, lanes: u32, reserved0: u32, reserved1: u32 }

@group(0) @binding(1) var<storage, read> segments: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> stats: array<atomic<u32>>;
@group(0) @binding(3) var<storage, read_write> moments: array<vec2f>;
@group(0) @binding(4) var<uniform> params: Params;

const COMPONENT = vec4u(0u, 1u, 2u, 3u);

fn max_of(v: vec4u) -> u32 {
  return max(max(v.x, v.y), max(v.z, v.w));
}

fn sum_of(v: vec4u) -> u32 {
  return v.x + v.y + v.z + v.w;
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let invocation = (group.y * groups.x + group.x) * 64u + local;
  let row = invocation / params.lanes;
  if (row >= params.segment_count) {
    return;
  }
  let lane = invocation % params.lanes;
  let segment = segments[row];
  let start = segment.x;
  let length = segment.y;
  if (length == 0u) {
    moments[invocation] = vec2f(0.0);
    return;
  }
  let end = start + length - 1u;
  let first = start >> 2u;
  let last = end >> 2u;
  // no element of a first or last vec4 belongs to another segment
  let whole = (start & 3u) == 0u && (end & 3u) == 3u;

  var seen = NO_EXTREMES;
  var zeros = NONE;
  var non_finite = NONE;
  var sum = vec4f(0.0);
  var squares = vec4f(0.0);
  var foreign = 0u;
  if (whole) {
    for (var v = first + lane; v <= last; v += params.lanes) {
      let bits = values_at(v);
      seen = with_bits(seen, bits);
      zeros += are_zero(bits);
      let value = bitcast<vec4f>(bits);
      sum += value;
      squares += value * value;
    }
  }
  var result = finite_extremes(seen);
  if (!whole || any(result.abs_max >= INFINITY_BITS)) {
    let before = select(NONE, ALL, COMPONENT < vec4u(start & 3u));
    let behind = select(NONE, ALL, COMPONENT > vec4u(end & 3u));
    result = NO_FINITE_EXTREMES;
    zeros = NONE;
    sum = vec4f(0.0);
    squares = vec4f(0.0);
    for (var v = first + lane; v <= last; v += params.lanes) {
      var bits = values_at(v);
      if (v == first) {
        bits |= before;
        foreign += start & 3u;
      }
      if (v == last) {
        bits |= behind;
        foreign += 3u - (end & 3u);
      }
      let finite = (bits & ABS_MASK) < INFINITY_BITS;
      result = with_value(result, bits, finite);
      zeros += are_zero(bits);
      non_finite += select(vec4u(1u), NONE, finite);
      let value = bitcast<vec4f>(select(NONE, bits, finite));
      sum += value;
      squares += value * value;
    }
  }

  let base = segment.z * 8u;
  raise(base, max_of(result.abs_max));
  raise(base + 1u, max_of(result.key_max));
  raise(base + 2u, max_of(~result.key_min));
  count(base + 3u, sum_of(zeros));
  count(base + 4u, sum_of(non_finite) - foreign);
  moments[invocation] = vec2f(sum.x + sum.y + sum.z + sum.w, squares.x + squares.y + squares.z + squares.w);
}
