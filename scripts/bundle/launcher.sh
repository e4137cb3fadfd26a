#!/bin/sh
# Starts Tensorpress with the Node and the libraries beside this file, from any folder and through symbolic links. Needs nothing
# but a shell; `readlink` only where this file is reached through a link.
self=$0
case $self in */*) ;; *) self=./$self ;; esac
while [ -h "$self" ]; do
  target=$(readlink "$self") || exit 1
  case $target in /*) self=$target ;; *) self=${self%/*}/$target ;; esac
done
here=$(CDPATH='' cd -- "${self%/*}/" && pwd -P) || exit 1

# The Vulkan loader of the system knows best where its drivers are. Hosts that have a driver and no loader get the one in here:
# behind the folders that LD_LIBRARY_PATH names already, but before those of the system.
vulkan_loader_installed() {
  saved_ifs=$IFS
  IFS=:
  for folder in ${LD_LIBRARY_PATH:-} /usr/lib/x86_64-linux-gnu /lib/x86_64-linux-gnu /usr/lib64 /lib64 /usr/lib /lib \
    /usr/local/lib64 /usr/local/lib; do
    if [ -e "$folder/libvulkan.so.1" ]; then
      IFS=$saved_ifs
      return 0
    fi
  done
  IFS=$saved_ifs
  return 1
}
if ! vulkan_loader_installed; then
  LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$here/lib/vulkan
  export LD_LIBRARY_PATH
fi

TENSORPRESS_SETUP=skip
export TENSORPRESS_SETUP
exec "$here/lib/node" "$here/app/bin/tensorpress" "$@"
