// Magnitude pruning: finite x with |x| <= t becomes +0, all else keeps its bits; t by slot, as f32 bits.
// values: f32 as bits; segments: [start, length, slot, aux]; thresholds: 1 word a slot; pruned: what becomes of values;
// zeros: [newly zeroed, zeros afterwards] a slot, atomics; params last.
// An invocation takes vec4s lane, lane + lanes, ... of its segment. Starts are multiples of 4 and no two segments share a vec4;
// elements behind the end, up to the end of their vec4, are copied.

struct Params { segment_count: u32, lanes: u32, reserved0: u32, reserved1: u32 }

@group(0) @binding(1) var<storage, read> segments: array<vec4u>;
@group(0) @binding(2) var<storage, read> thresholds: array<u32>;
@group(0) @binding(3) var<storage, read_write> pruned: array<vec4u>;
@group(0) @binding(4) var<storage, read_write> zeros: array<atomic<u32>>;
@group(0) @binding(5) var<uniform> params: Params;

const NONE = vec4u(0u);
const COMPONENT = vec4u(0u, 1u, 2u, 3u);

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
  let segment = segments[row];
  let first = segment.x >> 2u;
  let count = (segment.y + 3u) >> 2u;
  let threshold = vec4u(min(thresholds[segment.z], 0x7f7fffffu));
  var newly_zeroed = NONE;
  var zeros_after = NONE;
  for (var v = invocation % params.lanes; v < count; v += params.lanes) {
    let bits = values_at(first + v);
    let magnitude = bits & vec4u(0x7fffffffu);
    var small = magnitude <= threshold;
    if (v * 4u + 4u > segment.y) {
      small = small & (vec4u(v * 4u) + COMPONENT < vec4u(segment.y));
    }
    pruned[first + v] = select(bits, NONE, small);
    zeros_after += vec4u(small);
    newly_zeroed += vec4u(small & (magnitude != NONE));
  }
  let newly = newly_zeroed.x + newly_zeroed.y + newly_zeroed.z + newly_zeroed.w;
  if (newly != 0u) {
    atomicAdd(&zeros[segment.z * 2u], newly);
  }
  let after = zeros_after.x + zeros_after.y + zeros_after.z + zeros_after.w;
  if (after != 0u) {
    atomicAdd(&zeros[segment.z * 2u + 1u], after);
  }
}
