// IEEE 754-2008 binary16 as a number: the one decoder, for kernels' references and for everything that reads half floats back.

/** Value of a bit pattern: sign, 5 exponent bits (bias 15), 10 fraction bits. Exact. */
export function float16ToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 31
  const fraction = bits & 1023
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY
  return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24)
}
