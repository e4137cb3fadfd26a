// The list of kernels, one line each. test/kernels/kernel-list.test.ts proves that it and shaders/ agree.

import type { Kernel } from '../compute/compute-device.ts'
import { castBfloat16, castFloat16 } from './cast-float.ts'
import { compareBlock } from './compare-block.ts'
import { compareFloat } from './compare-float.ts'
import { compareInt8 } from './compare-int8.ts'
import { histogram } from './histogram.ts'
import { histogramLinear } from './histogram-linear.ts'
import { pruneThreshold } from './prune-threshold.ts'
import { quantizeBlock, quantizeInt4Block32, quantizeInt4Block32Subgroup } from './quantize-block.ts'
import {
  quantizeBlockTranspose,
  quantizeInt4Block32Transpose,
  quantizeInt4Block32TransposeSubgroup,
} from './quantize-block-transpose.ts'
import { quantizeInt8 } from './quantize-int8.ts'
import { quantizeInt8Channel } from './quantize-int8-channel.ts'
import { statistics } from './statistics.ts'
import { statisticsColumns } from './statistics-columns.ts'

export const KERNELS: readonly Kernel[] = [
  statistics,
  statisticsColumns,
  histogram,
  histogramLinear,
  pruneThreshold,
  quantizeInt8,
  quantizeInt8Channel,
  quantizeBlock,
  quantizeInt4Block32,
  quantizeInt4Block32Subgroup,
  quantizeBlockTranspose,
  quantizeInt4Block32Transpose,
  quantizeInt4Block32TransposeSubgroup,
  castFloat16,
  castBfloat16,
  compareFloat,
  compareInt8,
  compareBlock,
]
