// SPDX-License-Identifier: Apache-2.0
import Glibc
import Synchronization

/// A folder that appears at its path whole or not at all.
///
/// Files are written to `temporary`, beside it; `commit` brings the folder to the disk and gives it
/// its name. Without `commit` it goes again.
final class AtomicFolder {
    static let prefix = ".suture-tmp-"
    let path: String
    /// Where to write to.
    let temporary: String
    private var isTemporary = true

    private static let counter = Atomic<Int>(0)

    /// - Parameter path: its parent is there.
    init(path: String) throws {
        self.path = path
        let parent = folderName(of: path)
        var attempt: (name: String, problem: Int32)
        repeat {
            let number = Self.counter.add(1, ordering: .relaxed).newValue
            attempt = ("\(parent)/\(Self.prefix)folder-\(getpid())-\(number)", 0)
            if mkdir(attempt.name, 0o777) != 0 { attempt.problem = errno }
        } while attempt.problem == EEXIST
        guard attempt.problem == 0 else {
            throw SutureError.io("cannot write \(path): \(errorText(attempt.problem))")
        }
        temporary = attempt.name
    }

    deinit { if isTemporary { removeFolder(temporary) } }

    /// Makes the folder appear, in place of one of that name.
    func commit() throws {
        try syncFolder(temporary)
        if rename(temporary, path) != 0 {
            guard errno == ENOTEMPTY || errno == EEXIST else {
                throw SutureError.io("cannot write \(path): \(errorText(errno))")
            }
            // Two steps, so for a moment neither has the name.
            let old = "\(temporary)-old"
            guard rename(path, old) == 0, rename(temporary, path) == 0 else {
                throw SutureError.io("cannot write \(path): \(errorText(errno))")
            }
            removeFolder(old)
        }
        isTemporary = false
        try syncFolder(folderName(of: path))
    }
}

/// Brings the names in a folder to the disk. Some file systems cannot (EINVAL); files are complete
/// either way.
func syncFolder(_ path: String) throws {
    let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    if fsync(descriptor) != 0, errno != EINVAL, errno != ENOTSUP, errno != EROFS {
        throw SutureError.io("cannot write \(path): \(errorText(errno))")
    }
}

/// Names in a folder but for "." and "..", sorted.
func folderNames(_ path: String) throws -> [String] {
    guard let folder = opendir(path) else { throw SutureError.io("cannot read \(path): \(errorText(errno))") }
    defer { closedir(folder) }
    var names: [String] = []
    while let entry = readdir(folder) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
            pointer.withMemoryRebound(to: CChar.self, capacity: MemoryLayout.size(ofValue: pointer.pointee)) {
                String(cString: $0)
            }
        }
        if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
}

/// Removes a folder of files, as far as that can be done.
func removeFolder(_ path: String) {
    for name in (try? folderNames(path)) ?? [] { unlink("\(path)/\(name)") }
    rmdir(path)
}
