// The weights that a kernel reads, in a storage buffer: the device appends this file to the kernel's own source, or
// values-texture.wgsl instead. values_at(i): elements [4 i, 4 i + 4) of the bound range, f32 as bits.

@group(0) @binding(0) var<storage, read> values: array<vec4u>;

fn values_at(index: u32) -> vec4u {
  return values[index];
}
