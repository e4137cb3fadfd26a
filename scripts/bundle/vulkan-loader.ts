// The Vulkan loader that goes into the bundle: that of this machine, which must be a Debian or Ubuntu package so that version
// and licence are known. Hosts with a driver often have no loader (NVIDIA's installer brings none). Entry: vulkanLoader.

import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, realpathSync } from 'node:fs'
import type { Part } from './licence-list.ts'

const LOADER = '/usr/lib/x86_64-linux-gnu/libvulkan.so.1'

/** The file itself, and its row in the list of licences. */
export function vulkanLoader(): { path: string; part: Part } {
  if (!existsSync(LOADER)) throw new Error(`${LOADER} is missing: install the package libvulkan1, or run npm run setup`)
  // A line such as libvulkan1:amd64<tab>1.3.239.0-1
  const shown = spawnSync('dpkg-query', ['--show', 'libvulkan1'], { encoding: 'utf8' })
  const version = shown.stdout?.trim().split('\t')[1]
  if (!version) throw new Error('libvulkan1 is not a package of this system: build the bundle on Debian or Ubuntu')
  return {
    path: realpathSync(LOADER),
    part: {
      name: 'libvulkan1 (Vulkan loader)',
      version,
      licence: 'Apache-2.0 AND MIT',
      source: 'https://github.com/KhronosGroup/Vulkan-Loader',
      texts: [readFileSync('/usr/share/doc/libvulkan1/copyright', 'utf8').trim()],
    },
  }
}
