// Why a GPU that is in the machine may not be among the adapters: advice for `tensorpress doctor` on Linux, from device files
// and driver manifests. Entry: missingGpuAdvice().

import { existsSync, readdirSync } from 'node:fs'

/** Where container platforms mount NVIDIA's manifest, which the Vulkan loader does not search by itself. */
const UNSEARCHED_MANIFESTS = ['/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json']

/** What the advice is made from; `devices` are the names in /dev and /dev/dri. */
export interface GpuFacts {
  devices: string[]
  /** Manifests that exist outside of the loader's search path. */
  manifests: string[]
}

export function readGpuFacts(): GpuFacts {
  const names = (folder: string) => (existsSync(folder) ? readdirSync(folder) : [])
  return {
    devices: [...names('/dev'), ...names('/dev/dri')].filter((name) => /^(nvidia\d+|renderD\d+)$/.test(name)),
    manifests: UNSEARCHED_MANIFESTS.filter((path) => existsSync(path)),
  }
}

/** One line, or null when no GPU is in sight. Call it when no adapter is a GPU. */
export function missingGpuAdvice({ devices, manifests }: GpuFacts): string | null {
  const nvidia = devices.find((name) => name.startsWith('nvidia'))
  if (nvidia !== undefined && manifests.length > 0) {
    return `An NVIDIA GPU is there (/dev/${nvidia}) and its driver is not searched for: set VK_DRIVER_FILES=${manifests[0]}.`
  }
  if (nvidia !== undefined) {
    return `An NVIDIA GPU is there (/dev/${nvidia}) without its Vulkan driver: in a container set NVIDIA_DRIVER_CAPABILITIES=all, on a host install NVIDIA's graphics libraries (libnvidia-gl), not the compute ones alone.`
  }
  if (devices.length > 0) {
    return `A GPU is there (/dev/dri/${devices[0]}) without a Vulkan driver that fits it: install mesa-vulkan-drivers or the vendor's.`
  }
  return null
}
