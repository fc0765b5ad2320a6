// SPDX-License-Identifier: Apache-2.0
// Section: Training: several at once, checkpoints
import CSutureTypes
import Suture

/// suture_trainer_run() for trainer_count trainers on one stream: each batch is read once, and all of
/// them take a step on it. Each ends with the bits that it would have by itself.
///
/// The trainers must agree in d_in, batch_size, seed and where they are in the rows: new ones, or ones
/// that have always been run together. out is an array of trainer_count structs, all of
/// out[0].struct_size bytes; with NULL, the steps of this call count into the means of the next one.
///
/// A cancel waits until all have taken the step. After another error the trainers before the failing
/// one have taken the step and the others have not.
///
/// Errors: as suture_trainer_run(); SUTURE_ERROR_INVALID_ARGUMENT also if trainer_count is below 1,
/// a trainer is there twice, or they do not agree (the message says in what).
@c
public func suture_trainers_run(
    _ trainers: UnsafePointer<UnsafeMutablePointer<suture_trainer>?>?, _ trainer_count: Int64,
    _ shards: UnsafePointer<suture_matrix>?, _ shard_count: Int64, _ tokens: UInt64,
    _ progress: UnsafePointer<suture_progress>?, _ out: UnsafeMutablePointer<suture_train_metrics>?
) -> suture_status {
    boundary { try run(trainers, trainer_count, shards, shard_count, tokens, progress, out) }
}

/// The run of several, with a pull towards another model's codes or without.
func run(
    _ trainers: UnsafePointer<UnsafeMutablePointer<suture_trainer>?>?, _ trainerCount: Int64,
    _ shards: UnsafePointer<suture_matrix>?, _ shardCount: Int64, like other: OtherModel? = nil, _ tokens: UInt64,
    _ progress: UnsafePointer<suture_progress>?, _ out: UnsafeMutablePointer<suture_train_metrics>?
) throws {
    guard trainerCount >= 1, trainerCount <= Int64(sizeLimit) else {
        throw SutureError.invalidArgument("trainer_count is \(trainerCount), expected 1 to \(sizeLimit)")
    }
    guard let trainers else {
        throw SutureError.invalidArgument("trainers is NULL, expected \(trainerCount) trainers")
    }
    let all = try (0..<Int(trainerCount)).map { try trainer(trainers[$0], "trainers[\($0)]") }
    guard let first = all.first else { return }
    var size = 0
    if let out { size = try structSize(out, "out", of: suture_train_metrics.self) }
    let metrics = try Trainer.run(
        all, matrices(shards, shardCount, cols: (first.dIn, "d_in")), like: other, tokens: tokenCount(tokens),
        taking: out != nil, progress: SutureABI.progress(progress))
    guard let out else { return }
    for (index, value) in metrics.enumerated() {
        let target = UnsafeMutableRawPointer(out) + index * size
        target.storeBytes(of: UInt64(size), as: UInt64.self)
        try write(value, to: target.assumingMemoryBound(to: suture_train_metrics.self))
    }
}

/// Writes a checkpoint: a folder checkpoint-<steps> in `folder`, which is made if it is not there. In
/// it are the SAE as suture_sae_save() writes it, and trainer.safetensors: weights, Adam's moments,
/// counters, settings, and where training is in the rows. Of the checkpoints before it in `folder` the
/// last one stays. One run at a time writes to a folder.
///
/// A kill or a full disk at any moment leaves the checkpoints before this one as they were: it gets its
/// name when all of it is on the disk. Disk space: 16 bytes for each of the 2 d_in d_sae weights.
///
/// Errors: SUTURE_ERROR_IO with the path and the system's reason; SUTURE_ERROR_INVALID_ARGUMENT for an
/// empty path or one that is not UTF-8.
@c
public func suture_trainer_save(_ trainer: UnsafePointer<suture_trainer>?, _ folder: UnsafePointer<CChar>?)
    -> suture_status
{
    boundary { try SutureABI.trainer(trainer).save(to: try string(folder, "folder")) }
}

/// The trainer of a checkpoint: of a folder that suture_trainer_save() has written checkpoints to, the
/// last one; or of one checkpoint's own folder. Run on the same rows, it goes on as the one that was
/// saved would have, to the bit; where other kernels are in use (suture_cpu_info()), but for
/// rounding. suture_trainer_check_data() tells whether they are the same rows.
///
/// *out is the caller's, to be released with suture_trainer_destroy().
///
/// Errors: SUTURE_ERROR_IO if there is no checkpoint or a file cannot be read; SUTURE_ERROR_FORMAT if
/// one is cut short, damaged or contradicts itself; SUTURE_ERROR_UNSUPPORTED for one of a later
/// version; SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_trainer_load(
    _ folder: UnsafePointer<CChar>?, _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_trainer>?>?
) -> suture_status {
    boundary {
        let folder = try string(folder, "folder")
        let out = try required(out, "out")
        out.pointee = makeHandle(TrainerBox(try Trainer(folder: folder)), as: suture_trainer.self)
    }
}

/// Whether `shards` (as for suture_trainer_run()) are the rows that the trainer was run on last: as many,
/// and of the same values as float32, going by some rows spread over all.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if they are not, or if the trainer was not run on any.
@c
public func suture_trainer_check_data(
    _ trainer: UnsafePointer<suture_trainer>?, _ shards: UnsafePointer<suture_matrix>?, _ shard_count: Int64
) -> suture_status {
    boundary {
        let trainer = try SutureABI.trainer(trainer)
        try trainer.requireSameData(matrices(shards, shard_count, cols: (trainer.dIn, "d_in")))
    }
}

/// Settings, counters and kernels of a trainer as a JSON object, as its checkpoints have them:
/// "options" by the names of suture_train_config, "steps", "tokens", "kernels" (in use) and
/// "kernels_before" (those that wrote the checkpoint it comes from, or null), "d_in", "d_sae", "data"
/// and "order" once it was run. *size is the number of bytes with the final NUL; with json NULL, only
/// *size is written.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if capacity is below the number of bytes; nothing is
/// written but *size.
@c
public func suture_trainer_description(
    _ trainer: UnsafePointer<suture_trainer>?, _ json: UnsafeMutablePointer<CChar>?, _ capacity: UInt64,
    _ size: UnsafeMutablePointer<UInt64>?
) -> suture_status {
    boundary {
        try writeText(SutureABI.trainer(trainer).description(), to: json, capacity: capacity, size: size)
    }
}
