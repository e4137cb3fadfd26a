// Constants of the method quantize that its plan and the schema of its parameters share.

/** Block sizes that MatMulNBits takes: powers of two, 16 to 256. */
export const BLOCK_SIZES = [16, 32, 64, 128, 256] as const

/** Of |w|, where clip percentile names none. */
export const DEFAULT_PERCENTILE = 99.9
