// Seeded weights for executor tests: bell-shaped values with a few outliers.

import { seededRandom } from './seeded-random.ts'

export function weights(count: number, seed = 1, spread = 0.1): Float32Array {
  const random = seededRandom(seed)
  const values = new Float32Array(count)
  for (let i = 0; i < count; i++) {
    let sum = 0
    for (let term = 0; term < 6; term++) sum += random() - 0.5
    values[i] = sum * spread * (i % 97 === 0 ? 3 : 1)
  }
  return values
}
