// SPDX-License-Identifier: GPL-2.0
/* Locks, softirqs, memory of each CPU, time and deferred work. Part of helpers.c. */

__helper void rust_helper_rlvs_spin_lock(spinlock_t *lock)
{
	spin_lock(lock);
}

__helper void rust_helper_rlvs_spin_unlock(spinlock_t *lock)
{
	spin_unlock(lock);
}

__helper void rust_helper_rlvs_local_bh_disable(void)
{
	local_bh_disable();
}

__helper void rust_helper_rlvs_local_bh_enable(void)
{
	local_bh_enable();
}

__helper bool rust_helper_rlvs_softirqs_are_off(void)
{
	return softirq_count();
}

__helper void *rust_helper_rlvs_this_cpu_ptr(void *percpu)
{
	return raw_cpu_ptr((void __percpu *)percpu);
}

__helper void *rust_helper_rlvs_per_cpu_ptr(void *percpu, int cpu)
{
	return per_cpu_ptr((void __percpu *)percpu, cpu);
}

__helper void rust_helper_rlvs_this_cpu_add_u64(u64 *percpu, u64 value)
{
	this_cpu_add(*(u64 __percpu *)percpu, value);
}

/*
 * For words that no interrupt handler adds to, with softirqs off. Where adding takes several instructions the
 * other one turns interrupts off for it, which under User-Mode Linux is two system calls.
 */
__helper void rust_helper_rlvs_bh_cpu_add_u64(u64 *percpu, u64 value)
{
	__this_cpu_add(*(u64 __percpu *)percpu, value);
}

/*
 * Calls `fn` with `arg` on a CPU; here, while that cannot come up and nobody else does so, if it is down. Process
 * context.
 */
__helper void rust_helper_rlvs_call_on_cpu(int cpu, long (*fn)(void *), void *arg)
{
	static DEFINE_MUTEX(down);

	cpus_read_lock();
	if (cpu_online(cpu)) {
		work_on_cpu(cpu, fn, arg);
	} else {
		mutex_lock(&down);
		fn(arg);
		mutex_unlock(&down);
	}
	cpus_read_unlock();
}

/* The next possible CPU after `cpu` (-1 starts), or nr_cpu_ids. */
__helper unsigned int rust_helper_rlvs_next_possible_cpu(int cpu)
{
	return cpumask_next(cpu, cpu_possible_mask);
}

__helper unsigned int rust_helper_rlvs_nr_cpu_ids(void)
{
	return nr_cpu_ids;
}

__helper void rust_helper_rlvs_cond_resched(void)
{
	cond_resched();
}

/* For what RCU callbacks drop, too. */
__helper void rust_helper_rlvs_cond_resched_in_task(void)
{
	if (!in_interrupt())
		cond_resched();
}

__helper unsigned long rust_helper_rlvs_jiffies(void)
{
	return jiffies;
}

/* The length is in bytes, a multiple of 8 or short of it by 4. */
__helper u32 rust_helper_rlvs_hsiphash(const u32 *words, size_t len, const hsiphash_key_t *key)
{
	return hsiphash(words, len, key);
}

__helper void rust_helper_rlvs_delayed_work_init(struct delayed_work *work, work_func_t func)
{
	INIT_DELAYED_WORK(work, func);
}

__helper void rust_helper_rlvs_delayed_work_queue(struct delayed_work *work, unsigned long delay)
{
	queue_delayed_work(system_dfl_wq, work, delay);
}

__helper void rust_helper_rlvs_delayed_work_kick(struct delayed_work *work)
{
	mod_delayed_work(system_dfl_wq, work, 0);
}
