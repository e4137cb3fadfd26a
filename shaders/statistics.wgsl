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

const ABS_MASK = vec4u(0x7fffffffu);
const INFINITY_BITS = vec4u(0x7f800000u);
const COMPONENT = vec4u(0u, 1u, 2u, 3u);
const NONE = vec4u(0u);
const ALL = vec4u(0xffffffffu);

fn max_of(v: vec4u) -> u32 {
  return max(max(v.x, v.y), max(v.z, v.w));
}

fn sum_of(v: vec4u) -> u32 {
  return v.x + v.y + v.z + v.w;
}

// most invocations find a larger value already there: a load is cheaper than an atomic that changes nothing
fn raise(index: u32, value: u32) {
  if (value > atomicLoad(&stats[index])) {
    atomicMax(&stats[index], value);
  }
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
  let before = select(NONE, ALL, COMPONENT < vec4u(start & 3u));
  let behind = select(NONE, ALL, COMPONENT > vec4u(end & 3u));

  var abs_max = NONE;
  var key_max = NONE;
  var key_min = ALL;
  var zeros = NONE;
  var non_finite = NONE;
  var sum = vec4f(0.0);
  var squares = vec4f(0.0);
  var foreign = 0u;
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
    let magnitude = bits & ABS_MASK;
    let finite = magnitude < INFINITY_BITS;
    let key = bits ^ (bitcast<vec4u>(bitcast<vec4i>(bits) >> vec4u(31u)) | vec4u(0x80000000u));
    abs_max = max(abs_max, select(NONE, magnitude, finite));
    key_max = max(key_max, select(NONE, key, finite));
    key_min = min(key_min, select(ALL, key, finite));
    zeros += vec4u(magnitude == NONE);
    non_finite += select(vec4u(1u), NONE, finite);
    let value = bitcast<vec4f>(select(NONE, bits, finite));
    sum += value;
    squares += value * value;
  }

  let base = segment.z * 8u;
  raise(base, max_of(abs_max));
  raise(base + 1u, max_of(key_max));
  raise(base + 2u, max_of(~key_min));
  let zero_count = sum_of(zeros);
  if (zero_count != 0u) {
    atomicAdd(&stats[base + 3u], zero_count);
  }
  let non_finite_count = sum_of(non_finite) - foreign;
  if (non_finite_count != 0u) {
    atomicAdd(&stats[base + 4u], non_finite_count);
  }
  moments[invocation] = vec2f(sum.x + sum.y + sum.z + sum.w, squares.x + squares.y + squares.z + squares.w);
}
