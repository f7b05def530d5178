#!/bin/bash
# Puts herd7 of Debian's unstable suite into target/tools/herd, with the C library
# that it needs, and leaves the system as it is.
set -euo pipefail
cd "$(dirname "$0")/../.."
verification/tools/debian.sh herd sid herdtools7 libc6 libgmp10
folder=target/tools/herd
libraries=$(dirname "$(find "$folder" -name 'ld-linux-*.so.*' -path '*usr*' | head -n 1)")
cat >"$folder/herd7" <<SCRIPT
#!/bin/bash
here=\$(dirname "\$0")
libraries=\$here/${libraries#"$folder"/}
exec "\$libraries"/ld-linux-*.so.* --library-path "\$libraries" \\
    "\$here/usr/bin/herd7" -set-libdir "\$here/usr/share/herdtools7/herd" "\$@"
SCRIPT
chmod +x "$folder/herd7"
"$folder/herd7" -version
