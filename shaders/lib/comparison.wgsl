// What the compare kernels share. Their bindings `stats` and `sums` are as src/kernels/compare.ts says; an invocation keeps a
// Comparison, adds vec4s to it and writes it once.

struct Comparison {
  max_error: vec4u,
  zeros_original: vec4u,
  zeros_artifact: vec4u,
  compared: vec4u,
  non_finite: vec4u,
  error_squares: vec4f,
  original_squares: vec4f,
  artifact_squares: vec4f,
  dot_products: vec4f,
}

// elements that are `inside`; non-finite originals are counted and skipped, a non-finite artifact of a finite original is counted
// too, and its error is infinity
fn add_vec4(c: ptr<function, Comparison>, inside: vec4<bool>, original: vec4u, artifact: vec4u) {
  let abs_mask = vec4u(0x7fffffffu);
  let infinity = vec4u(0x7f800000u);
  let none = vec4u(0u);
  let artifact_finite = (artifact & abs_mask) < infinity;
  let original_finite = (original & abs_mask) < infinity;
  let valid = inside & original_finite;
  let both = valid & artifact_finite;
  (*c).compared += vec4u(valid);
  (*c).non_finite += vec4u(inside & !(original_finite & artifact_finite));
  (*c).zeros_original += vec4u(valid & ((original & abs_mask) == none));
  (*c).zeros_artifact += vec4u(valid & ((artifact & abs_mask) == none));
  let a = bitcast<vec4f>(select(none, original, both));
  let b = bitcast<vec4f>(select(none, artifact, both));
  let error = b - a;
  let size = max(bitcast<vec4u>(error) & abs_mask, select(none, infinity, valid & !artifact_finite));
  (*c).max_error = max((*c).max_error, size);
  (*c).error_squares += error * error;
  (*c).original_squares += a * a;
  (*c).artifact_squares += b * b;
  (*c).dot_products += a * b;
}

fn add_count(index: u32, counts: vec4u) {
  let count = counts.x + counts.y + counts.z + counts.w;
  if (count != 0u) {
    atomicAdd(&stats[index], count);
  }
}

fn write_comparison(c: Comparison, slot: u32, invocation: u32) {
  let base = slot * 8u;
  let largest = max(max(c.max_error.x, c.max_error.y), max(c.max_error.z, c.max_error.w));
  if (largest > atomicLoad(&stats[base])) {
    atomicMax(&stats[base], largest);
  }
  add_count(base + 1u, c.zeros_original);
  add_count(base + 2u, c.zeros_artifact);
  add_count(base + 3u, c.compared);
  add_count(base + 4u, c.non_finite);
  let one = vec4f(1.0);
  sums[invocation] = vec4f(
    dot(c.error_squares, one),
    dot(c.original_squares, one),
    dot(c.artifact_squares, one),
    dot(c.dot_products, one),
  );
}
