// What to do where no adapter, or none that is a GPU, is found: advice for `tensorpress doctor`. Entries: noAdapterAdvice(), and
// missingGpuAdvice() on Linux, from device files and driver manifests.

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

/** @param isCheckout false: an installed package or bundle, which has no set-up of its own. */
export function noAdapterAdvice(platform: NodeJS.Platform, isCheckout: boolean): string {
  if (platform !== 'linux') return 'No adapter: install the driver of the GPU.'
  if (isCheckout) {
    return 'No adapter: run "npm run setup" in the checkout; it installs a Vulkan driver or says how to.'
  }
  return 'No adapter: install the Vulkan driver of the GPU, or the software driver lavapipe of Mesa 24 or later: package mesa-vulkan-drivers of Debian 13 or Ubuntu 24.04, in Debian 12 that of bookworm-backports.'
}
