// SPDX-License-Identifier: Apache-2.0

// A safetensors file of ours: its `__metadata__`, whose values are texts, has each member of an object's
// metadata, texts as they are, everything else as JSON, and `suture_format`, which says what the file is.

extension Safetensors {
    private static let formatKey = "suture_format"

    /// Writes an object's tensors and metadata to one file, which appears whole or not at all.
    ///
    /// - Parameter format: kind and version, such as "stitch/1".
    /// - Throws: `io`.
    static func write(_ tensors: [NamedTensor], describedBy metadata: Metadata, format: String, to path: String) throws
    {
        let file = try AtomicFile(path: path)
        try write(tensors, describedBy: metadata, format: format, to: file)
        try file.commit()
    }

    /// The same into an open file, which the caller commits.
    static func write(
        _ tensors: [NamedTensor], describedBy metadata: Metadata, format: String, to file: AtomicFile
    ) throws {
        var texts = [(key: formatKey, value: format)]
        for (key, value) in metadata.members where key != formatKey {
            // A text that could be taken for JSON is quoted, so that it comes back as a text.
            if case .string(let text) = value, (try? JSON(parsing: text, name: key)) == nil {
                texts.append((key, text))
            } else {
                texts.append((key, value.text()))
            }
        }
        try write(tensors, metadata: texts, to: file)
    }

    /// Opens a file that `write` wrote, or any safetensors file that does not say to be of another format.
    ///
    /// - Throws: `io` if it cannot be read; `format` if it is cut short, damaged or of another format.
    static func read(_ path: String, format: String) throws -> (file: SafetensorsReader, metadata: Metadata) {
        let file = try SafetensorsReader(path: path)
        var members: [(key: String, value: JSON)] = []
        for (key, value) in file.metadata.members where key != formatKey {
            if case .string(let text) = value, let json = try? JSON(parsing: text, name: key) {
                members.append((key, json))
            } else {
                members.append((key, value))
            }
        }
        if let found = file.metadata.text(formatKey), found != format {
            throw SutureError.format("\(path): \(formatKey) is \(found), expected \(format)")
        }
        return (file, Metadata(unique: members))
    }
}
