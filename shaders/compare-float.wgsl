// Compares a tensor with its artifact stored as f32, float16 or bfloat16, element by element.
// values (the original): f32 as bits; artifact: f32 or 2 halfwords a word; segments: [start, length, slot, aux]; stats: 8 words a slot,
// [max |error| bits, zeros in original, zeros in artifact, compared, non-finite, 0, 0, 0], atomics; sums: [error^2, original^2,
// artifact^2, original * artifact] of each invocation, information only; params last.
// An invocation takes vec4s lane, lane + lanes, ... of its segment. Starts are multiples of 4. Non-finite originals are counted
// and skipped; a non-finite artifact of a finite original is counted there too, and its error is infinity.

struct Params { segment_count: u32, lanes: u32, artifact_bits: u32, bfloat: u32 }

@group(0) @binding(1) var<storage, read> artifact: array<vec2u>;
@group(0) @binding(2) var<storage, read> segments: array<vec4u>;
@group(0) @binding(3) var<storage, read_write> stats: array<atomic<u32>>;
@group(0) @binding(4) var<storage, read_write> sums: array<vec4f>;
@group(0) @binding(5) var<uniform> params: Params;

const INFINITY_BITS = vec4u(0x7f800000u);
const COMPONENT = vec4u(0u, 1u, 2u, 3u);

fn half_to_bits(half: vec4u) -> vec4u {
  let sign = (half & vec4u(0x8000u)) << vec4u(16u);
  let magnitude = half & vec4u(0x7fffu);
  let normal = (magnitude << vec4u(13u)) + vec4u(0x38000000u);
  // a denormal is a whole number of 2^-24
  let denormal = bitcast<vec4u>(vec4f(magnitude) * 5.9604644775390625e-8);
  let special = (magnitude << vec4u(13u)) | INFINITY_BITS;
  let bits = select(select(normal, special, magnitude >= vec4u(0x7c00u)), denormal, magnitude < vec4u(0x400u));
  return sign | bits;
}

fn artifact_bits(v: u32) -> vec4u {
  if (params.artifact_bits == 32u) {
    return vec4u(artifact[v * 2u], artifact[v * 2u + 1u]);
  }
  let words = artifact[v];
  let halves = vec4u(words.x & 0xffffu, words.x >> 16u, words.y & 0xffffu, words.y >> 16u);
  if (params.bfloat == 1u) {
    return halves << vec4u(16u);
  }
  return half_to_bits(halves);
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
  var comparison = Comparison();
  for (var v = invocation % params.lanes; v < count; v += params.lanes) {
    let stored_bits = artifact_bits(first + v);
    add_vec4(&comparison, vec4u(v * 4u) + COMPONENT < vec4u(segment.y), values_at(first + v), stored_bits);
  }
  write_comparison(comparison, segment.z, invocation);
}
