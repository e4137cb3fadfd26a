// f32 -> bfloat16 (the upper half of an f32), round to nearest even, on integers: denormals kept, a value that rounds beyond
// the largest becomes infinity, a NaN keeps its upper bits and is made quiet.
// values: f32 as bits; segments: [start, length, slot, aux]; out: 2 elements a word, so a vec4 becomes a vec2;
// flags: [overflow, non-finite in] a slot, atomics; params last.
// An invocation takes vec4s lane, lane + lanes, ... of its segment. Starts are multiples of 4; halfwords behind the end are 0.

struct Params { segment_count: u32, lanes: u32, reserved0: u32, reserved1: u32 }

@group(0) @binding(1) var<storage, read> segments: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> out: array<vec2u>;
@group(0) @binding(3) var<storage, read_write> flags: array<atomic<u32>>;
@group(0) @binding(4) var<uniform> params: Params;

const COMPONENT = vec4u(0u, 1u, 2u, 3u);
const INFINITY_BITS = vec4u(0x7f800000u);
const OVERFLOW_BITS = vec4u(0x7f7f8000u);

fn to_bfloat(bits: vec4u) -> vec4u {
  let rounded = (bits + vec4u(0x7fffu) + ((bits >> vec4u(16u)) & vec4u(1u))) >> vec4u(16u);
  let not_a_number = (bits >> vec4u(16u)) | vec4u(0x40u);
  return select(rounded, not_a_number, (bits & vec4u(0x7fffffffu)) > INFINITY_BITS);
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
  let segment = segments[row];
  let first = segment.x >> 2u;
  let count = (segment.y + 3u) >> 2u;
  var large = vec4u(0u);
  var non_finite = vec4u(0u);
  for (var v = invocation % params.lanes; v < count; v += params.lanes) {
    var bits = values_at(first + v);
    if (v * 4u + 4u > segment.y) {
      bits = select(vec4u(0u), bits, vec4u(v * 4u) + COMPONENT < vec4u(segment.y));
    }
    let magnitude = bits & vec4u(0x7fffffffu);
    large += vec4u(magnitude >= OVERFLOW_BITS);
    non_finite += vec4u(magnitude >= INFINITY_BITS);
    let half = to_bfloat(bits);
    out[first + v] = half.xz | (half.yw << vec2u(16u));
  }
  let non_finite_count = non_finite.x + non_finite.y + non_finite.z + non_finite.w;
  let overflow_count = large.x + large.y + large.z + large.w - non_finite_count;
  if (overflow_count != 0u) {
    atomicAdd(&flags[segment.z * 2u], overflow_count);
  }
  if (non_finite_count != 0u) {
    atomicAdd(&flags[segment.z * 2u + 1u], non_finite_count);
  }
}
