// The versions that a report names, read from package manifests: nothing native is loaded, so the server may call it.

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { VERSION } from '../version.ts'
import type { Versions } from './report.ts'

const require = createRequire(import.meta.url)

/** Versions of Tensorpress, Node, the WebGPU binding (Dawn) and onnxruntime as installed. */
export function readVersions(): Versions {
  return {
    tensorpress: VERSION,
    node: process.versions.node,
    webgpu: packageVersion('webgpu'),
    onnxruntime: packageVersion('onnxruntime-node'),
  }
}

/** Looks through the folders where Node would look for the package; null when it is not installed. */
function packageVersion(name: string): string | null {
  for (const folder of require.resolve.paths(name) ?? []) {
    try {
      const manifest: unknown = JSON.parse(readFileSync(`${folder}/${name}/package.json`, 'utf8'))
      if (manifest !== null && typeof manifest === 'object' && 'version' in manifest) return String(manifest.version)
    } catch {
      // not in this folder; the next one may have it
    }
  }
  return null
}
