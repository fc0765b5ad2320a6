// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Checkpoints: folders of a run's folder, named by their step. Each has the SAE in SAELens' layout
/// (cfg.json, sae_weights.safetensors) and trainer.safetensors, from which training goes on.
extension Trainer {
    static let stateName = "trainer.safetensors"
    private static let stateKey = "suture_trainer"
    private static let checkpointPrefix = "checkpoint-"
    /// Checkpoints that stay.
    static let kept = 2

    /// Writes the checkpoint of this step into `folder`, which is made if it is not there, and then
    /// removes those before it but for one.
    ///
    /// At any moment a kill, a full disk or a loss of power leaves the checkpoints before it as they
    /// were: files and folder are brought to the disk under another name first, which then becomes
    /// that of the checkpoint. One run at a time writes to a folder.
    ///
    /// - Returns: the path of the checkpoint.
    /// - Throws: `SutureError.io` with the path and the system's reason.
    @discardableResult
    public func save(to folder: String) throws -> String {
        let sae = try self.sae()
        return try exclusively {
            try makeFolders(folder)
            let digits = String(steps)
            let name = Self.checkpointPrefix + String(repeating: "0", count: max(0, 12 - digits.count)) + digits
            let checkpoint = try AtomicFolder(path: "\(folder)/\(name)")
            try sae.save(to: checkpoint.temporary)
            try Safetensors.write(
                stateTensors.map(\.tensor), metadata: [(Self.stateKey, state.text())],
                to: "\(checkpoint.temporary)/\(Self.stateName)")
            try checkpoint.commit()
            try Self.prune(folder, after: name)
            return checkpoint.path
        }
    }

    /// Removes what a killed process left half written, and checkpoints before `written` but the last of
    /// them. Later ones are of another run, and stay.
    private static func prune(_ folder: String, after written: String) throws {
        let names = try folderNames(folder)
        for name in names where name.hasPrefix(AtomicFolder.prefix) { removeFolder("\(folder)/\(name)") }
        for name in names.filter({ isCheckpoint($0) && $0 <= written }).dropLast(kept) {
            let path = "\(folder)/\(name)"
            // Renamed first: what has a checkpoint's name is whole.
            let going = "\(folder)/\(AtomicFolder.prefix)\(name)"
            if rename(path, going) == 0 { removeFolder(going) }
        }
    }

    /// Whether it is a name that `save` gives: what users put beside checkpoints, copies of them too, has
    /// others, and is neither removed nor taken for the last one.
    private static func isCheckpoint(_ name: String) -> Bool {
        let digits = name.utf8.dropFirst(checkpointPrefix.utf8.count)
        return name.hasPrefix(checkpointPrefix) && digits.count >= 12
            && digits.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    }

    /// The trainer of a checkpoint: of `folder` itself, or the last one in it. It goes on as the one
    /// that was saved would have: with the same kernels, to the bit.
    ///
    /// - Throws: `SutureError.io` where nothing is there, `.format` where a file is damaged.
    public convenience init(folder: String) throws {
        let checkpoint = try Self.checkpoint(in: folder)
        let reader = try SafetensorsReader(path: "\(checkpoint)/\(Self.stateName)")
        guard let text = reader.metadata.text(Self.stateKey) else {
            throw SutureError.format("\(reader.path) is not the state of a trainer")
        }
        let state = JSON.object(try Metadata(parsing: text, name: "the state in \(reader.path)").members)
        guard state["format"]?.integer == Self.stateFormat else {
            throw SutureError.unsupported(
                "\(reader.path) has the format \(state["format"]?.text() ?? "null"), this version reads \(Self.stateFormat)"
            )
        }
        let options = try TrainingOptions(state["options"], name: reader.path)
        do {
            try self.init(SAE(folder: checkpoint), options: options)
        } catch SutureError.invalidArgument(let message) {
            throw SutureError.format("\(checkpoint): \(message)")
        }
        try restore(state, from: reader)
    }

    private static func checkpoint(in folder: String) throws -> String {
        guard !folder.isEmpty, !folder.utf8.contains(0) else {
            throw SutureError.invalidArgument("folder is \"\(folder)\", expected the name of a folder")
        }
        let names = try folderNames(folder)
        if names.contains(stateName) { return folder }
        guard let last = names.last(where: isCheckpoint) else {
            throw SutureError.io("there is no checkpoint in \(folder), expected \(stateName) or \(checkpointPrefix)…")
        }
        return "\(folder)/\(last)"
    }

    /// Settings, counters and kernels as JSON.
    public func description() throws -> String { try exclusively { state.text() } }
}
