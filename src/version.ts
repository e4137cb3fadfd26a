// The version of Tensorpress, from package.json. Part of artifact cache keys and reports.

import { readFileSync } from 'node:fs'
import { packageFile } from './program-files.ts'

const manifest: unknown = JSON.parse(readFileSync(packageFile('package.json'), 'utf8'))

export const VERSION: string =
  manifest !== null && typeof manifest === 'object' && 'version' in manifest ? String(manifest.version) : '0.0.0'
